"""The outcome of a run in words: the verdict at the top of its page, the reasons, and what to try next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from stml_tf.evaluation.health import Health, Verdict, verdict
from stml_tf.evaluation.result_rows import best_of, label_of
from stml_tf.pages.record import RunRecord

_FELL = 0.05  # of health: more than chance
_SAME = 0.01  # of health: no change that counts
_ALIKE = 0.95  # cosine


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run.

    Attributes:
        level: How good that is.
        title: A few words.
        reasons: Sentences, with the numbers.
        advice: What to try next, the most pressing first.
    """

    level: Literal["good", "warn", "bad", "open"]
    title: str
    reasons: list[str]
    advice: list[str]


def outcome_of(run: RunRecord) -> Outcome:
    """Judge a run: by its health, and where there are labels by what it retrieves."""
    level, title, first = _judged(run)
    return Outcome(level, title, [*first, *_health_reasons(run), *_retrieval_reasons(run)], [*_advice(run, level)])


def verdict_of(run: RunRecord) -> Verdict | None:
    """Return what the health of a run amounts to; None where it is not known."""
    healths = run.healths
    if run.before is None or len(healths) < 2:
        return None
    return verdict(healths, frozen=run.before if run.pretrained else None)


def below_free(run: RunRecord) -> bool:
    """Return whether a run ended below the best result without training, by MAP@R."""
    if run.reached not in run.results or not run.free or not run.epochs:
        return False
    return run.results[run.reached]["map@r"] < run.free[best_of(run.free)]["map@r"]


def _judged(run: RunRecord) -> tuple[Literal["good", "warn", "bad", "open"], str, list[str]]:
    health, found = run.healths, verdict_of(run)
    if found is Verdict.COLLAPSING:
        return "bad", "Ruined: the embedding collapsed", [_of_stop(run)] if run.stopped else []
    if run.stopped:
        return "bad", "Ruined: training had to stop", [run.stopped]
    if run.status == "unfinished":
        done = f"Epochs done: {len(run.epochs)} of {run.epochs_planned}."
        return "open", "Not finished", [f"{done} What follows is where the run stands."]
    if not run.epochs:
        return "open", "Not trained", ["The method takes no steps: the network is kept as it was, with fitted heads."]
    if found is Verdict.WORSE_THAN_FROZEN:
        return "bad", "Worse than the frozen network", ["Training made the embedding worse than it was for free."]
    if below_free(run):
        return "bad", "Below what is free", ["Training ended below what can be had without any."]
    if found is None:
        return "open", "Trained; health was not measured", []
    if health[-1].score < health[0].score - _FELL:
        return "warn", "Doubtful: health fell", ["The embedding tells images apart less well than before training."]
    if found is Verdict.NO_LONGER_IMPROVING:
        return "warn", "It learned, then stopped improving", []
    if health[-1].score < health[0].score + _SAME and not run.results:
        return "warn", "Not ruined, but no better than before training", []
    return "good", "Healthy: it learned", []


def _of_stop(run: RunRecord) -> str:
    return f"Training was stopped after epoch {len(run.epochs)} of {run.epochs_planned}, and nothing was exported."


def _health_reasons(run: RunRecord) -> Iterator[str]:
    healths = run.healths
    if run.before is None or len(healths) < 2:
        return
    first, last = healths[0], healths[-1]
    went = f"went from {first.score:.2f} before training to {last.score:.2f}"
    if abs(last.score - first.score) >= _SAME:
        went = f"{'rose' if last.score > first.score else 'fell'}{went.removeprefix('went')}"
    yield (
        f"Without looking at labels: health {went} (1 is best). Two random views of a training image find each other "
        f"among all others in {_percent(last.view_agreement)} of cases ({_percent(first.view_agreement)} before), and "
        f"{_percent(last.shared_neighbors)} of its neighbours are the same in both ({_percent(first.shared_neighbors)} "
        "before)."
    )
    if verdict_of(run) is Verdict.COLLAPSING:
        best = max(each.effective_rank for each in healths)
        alike = f", and two different images have a cosine of {last.cosine_mean:.2f} on average"
        yield (
            f"Embeddings have lost their directions: they spread in {last.effective_rank:.1f}, of {best:.1f} at best"
            f"{alike if last.cosine_mean > first.cosine_mean else ''}."
        )


def _retrieval_reasons(run: RunRecord) -> Iterator[str]:
    if run.reached not in run.results:
        if run.status == "finished":
            yield "There were no test images, so retrieval could not be measured: only health tells."
        last = run.epochs[-1].get("recall@1") if run.epochs else None
        before = run.results.get("before_training", {}).get("recall@1")
        if last is not None and before is not None:
            yield f"On the test images, R@1 went from {_points(before)} percent before training to {_points(last)}."
        return
    reached = run.results[run.reached]
    recall = (
        f"R@1 {_points(reached['recall@1'])} and MAP@R {_points(reached['map@r'])}"
        if "recall@1" in reached
        else (f"MAP@R {_points(reached['map@r'])}")
    )
    sentence = f"On {reached['queries']:,} test queries: {recall} percent"
    if run.free:
        best = best_of(run.free)
        gap = 100 * (reached["map@r"] - run.free[best]["map@r"])
        side = "above" if gap >= 0 else "below"
        free = run.free[best]
        sentence += (
            f", which is {abs(gap):.1f} points of MAP@R {side} the best that is free, {label_of(best, free)} "
            f"({_points(free['map@r'])})"
        )
    yield sentence + "."


def _advice(run: RunRecord, level: str) -> Iterator[str]:
    found = verdict_of(run)
    if found is Verdict.COLLAPSING:
        yield "Lower optimizer.learning_rate, to a third of what it was."
        yield "Raise loss.sigma: a small one calls almost all pairs unlike."
        yield "Set teacher.center to true, which allows a small loss.sigma."
    elif run.stopped:
        yield "Lower optimizer.learning_rate: a loss that is no number comes of steps that are too long."
    if found is Verdict.WORSE_THAN_FROZEN or (below_free(run) and found is not Verdict.COLLAPSING):
        fewer = ", or train fewer blocks: model.trainable" if run.pretrained else ", or train for more epochs"
        yield f"Lower optimizer.learning_rate{fewer}."
        if run.pretrained:
            yield 'Take what is free: "method": "whiten" fits and exports it in a minute.'
    if found is Verdict.NO_LONGER_IMPROVING:
        best = _best_epoch(run.healths)
        yield f"Health was best after epoch {best}: train anew with so many epochs, or set training.keep to best."
    if level == "warn" and found is Verdict.HEALTHY and not run.results:
        yield "Train for more epochs, or raise optimizer.learning_rate a little, and watch health."
    if level == "good" and len(run.healths) > 2 and _best_epoch(run.healths) == len(run.epochs):
        yield "Health was still rising at the end: try more epochs (training.epochs)."
    if run.status == "unfinished":
        yield "Go on where it stopped: repeat the command with --resume."
    if run.evidence and _many_alike(run):
        yield (
            "Many training images have one that is almost the same. Look at the most alike pairs below; if they are "
            "copies, remove them: stml-tf duplicates shows all."
        )
    if run.status == "finished" and not run.results:
        yield (
            "To be told retrieval in numbers, give data.test a folder with one folder a class, of images that are not "
            "trained on. Until then, look at the neighbours below: are they what you call alike?"
        )
    if run.saved_model and level in ("good", "warn"):
        yield f"Search with it: stml-tf index {run.saved_model} IMAGES -o gallery"


def _many_alike(run: RunRecord) -> bool:
    similarities = run.evidence.similarities
    if similarities is None:
        return False
    alike = sum(n for edge, n in zip(similarities.edges, similarities.nearest, strict=False) if edge >= 0.99)
    usual = sum(n for edge, n in zip(similarities.edges, similarities.random, strict=False) if edge >= _ALIKE)
    # Where all are alike to the network, that says nothing of the images.
    return alike > 0.05 * sum(similarities.nearest) and usual < 0.05 * sum(similarities.random)


def _best_epoch(healths: list[Health]) -> int:
    return max(range(len(healths)), key=lambda place: healths[place].score)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _points(share: float) -> str:
    return f"{100 * share:.1f}"
