import pytest
from click.testing import CliRunner

from stml_tf.cli.main import main
from stml_tf.runs import sweep as sweeping
from stml_tf.runs.study import Outcome
from stml_tf.runs.sweep import SweepResult

pytest.importorskip("optuna")


@pytest.fixture
def answer(monkeypatch, tmp_path):
    """Answers in place of `sweep`, and keeps what it was asked."""
    asked = []

    def give(*outcomes):
        def stand_in(recipe, parameters, **options):
            asked.append((recipe, parameters, options))
            best = outcomes[0].settings if outcomes[0].ended == "complete" else None
            return SweepResult(tmp_path, list(outcomes), best, best and tmp_path / "best.json")

        monkeypatch.setattr(sweeping, "sweep", stand_in)
        return asked

    return give


def call(*arguments):
    return CliRunner().invoke(main, ["sweep", *map(str, arguments)])


GOOD = Outcome("trial-001", {"loss.sigma": 0.30000001, "optimizer.name": "adamw"}, "complete", 0.7, 0.7, 0.654, 8)
PRUNED = Outcome("trial-002", {"loss.sigma": 1, "optimizer.name": "adamp"}, "pruned", 0.5, 0.5, 0.4, 3)
COLLAPSED = Outcome("trial-000", {"loss.sigma": 0.1, "optimizer.name": "adamp"}, "collapsed", 0.0, 0.0, None, 2, "lost")
FAILED = Outcome("trial-003", {"loss.sigma": 2, "optimizer.name": "adamp"}, "failed", why="too few images")
PARAMS = ("--param", "loss.sigma=0.1..2:log", "--param", "optimizer.name=adamp,adamw")


def test_a_sweep_ends_with_a_table_and_the_command_that_trains_the_best(answer, tmp_path):
    [asked] = [answer(GOOD, PRUNED, COLLAPSED, FAILED)]
    more = ["--set", "seed=3", "--data-dir", tmp_path, "--trials", "4", "--on", "heldout", "--resume", "-o", "out"]
    result = call("quickstart", *PARAMS, *more)
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.output.splitlines()[:5]]
    assert rows[0] == ["trial", "loss.sigma", "optimizer.name", "score", "R@1", "held", "out", "epochs", "ended"]
    assert rows[1] == ["trial-001", "0.3", "adamw", "0.700", "65.4", "8", "complete"]
    assert rows[3] == ["trial-000", "0.1", "adamp", "0.000", "2", "collapsed"]
    assert rows[4] == ["trial-003", "2", "adamp", "0", "failed"]
    command = f"--set seed=3 --set loss.sigma=0.30000001 --set optimizer.name=adamw --data-dir {tmp_path}"
    assert f"Train it: stml-tf train quickstart {command}" in result.output
    assert f"Best recipe: {tmp_path / 'best.json'}" in result.output
    [(recipe, parameters, options)] = asked
    assert recipe == "quickstart" and [each.key for each in parameters] == ["loss.sigma", "optimizer.name"]
    assert options["overrides"] == ("seed=3",) and options["trials"] == 4 and options["on"] == "heldout"
    assert options["resume"] and options["folder"].name == "out" and options["data_dir"] == tmp_path


def test_by_the_score_no_recall_is_shown_and_by_test_classes_there_is_a_warning(answer):
    answer(GOOD)
    assert "R@1" not in call("quickstart", *PARAMS).output
    assert "is no longer a fair result" in call("quickstart", *PARAMS, "--on", "test").output


def test_where_no_trial_came_to_its_end_the_reason_is_told_and_the_status_is_1(answer):
    answer(COLLAPSED, FAILED)
    result = call("quickstart", *PARAMS)
    assert result.exit_code == 1
    assert "None of the 2 trials came to its end: lost" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["quickstart"], "No --param was given, so there is nothing to try; allowed: KEY.PATH=VALUE"),
        (["quickstart", "--param", "loss.sgima=1,2"], "loss.sgima: unknown key"),
        (["quickstrat", *PARAMS], "quickstrat: no such file"),
        (["quickstart", *PARAMS, "--trials", "0"], "0 is not in the range x>=1"),
        (["quickstart", *PARAMS, "--on", "labels"], "'labels' is not one of 'score', 'heldout', 'test'"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_is_written(answer, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = answer(GOOD)
    result = call(*arguments)
    assert result.exit_code == 2 and message in result.output
    assert not asked and not list(tmp_path.iterdir())
