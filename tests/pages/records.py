"""Runs that never were, with the numbers of runs that were: one that learned, and one that was ruined."""

import numpy as np

from stml_tf.evaluation.health import Health
from stml_tf.pages.evidence import ClassResult, Evidence, Found, Map, Pair, Similarities, ViewsOfImage
from stml_tf.pages.pictures import columns_of, data_address, picture_of_pixels, sprite
from stml_tf.pages.record import RunRecord, Setting


def health(rank, agreement, shared, cosine=0.1, last=0.7, start=0.5):
    return Health(rank, cosine, 0.1, agreement, shared, shared, last, start)


def logs(number, measured, **others):
    return {
        "loss": 0.01 + 0.001 * number,
        "learning_rate": 0.001 / number,
        "health": measured.score,
        **{f"health/{name}": value for name, value in vars(measured).items()},
        "speed/epoch_seconds": 40.0,
        "speed/images_per_second": 150.0,
        "speed/peak_memory_gb": 1.2,
        **others,
    }


def picture(seed=0, **said):
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    return picture_of_pixels(pixels, **{"alt": f"Picture {seed}", **said})


def evidence(*, tested=True, images=12):
    random = np.random.default_rng(0)
    found = [
        Found(
            picture(n, heading="soup", caption=f"{n}.jpg"),
            [picture(n + m, heading="0.912", correct=m % 2 == 0 if tested else None) for m in range(1, 7)],
        )
        for n in range(2)
    ]
    pixels = [random.integers(0, 256, (24, 24, 3), dtype=np.uint8) for _ in range(images)]
    classes = [
        ClassResult("soup & <bread>", 20, 0.5, 0.25, "stew", picture(7)),
        ClassResult("stew", 20, 1.0, 0.5, None),
    ]
    return Evidence(
        looked_up="test" if tested else "training",
        worst=found if tested else [],
        random=found,
        classes=classes if tested else [],
        num_classes=2 if tested else 0,
        map=Map(
            "t-SNE",
            [(float(x), float(y)) for x, y in random.random((images, 2))],
            [f"image <{n}>" for n in range(images)],
            [n % 3 > 0 for n in range(images)] if tested else None,
            data_address(sprite(pixels, side=48)),
            columns_of(images),
        ),
        similarities=Similarities([0.0, 0.25, 0.5, 0.75, 1.0], [0, 5, 25, 70], [60, 30, 10, 0]),
        pairs=[Pair(0.9987, picture(1, caption="a.jpg"), picture(2, caption="b.jpg"))],
        sampled=2000,
        training_images=5421,
        views=[ViewsOfImage(picture(3, heading="Image"), [picture(n) for n in range(4, 8)])],
    )


def healthy_run(**changes):
    measured = [health(20, 0.3 + 0.1 * n, 0.4 + 0.04 * n) for n in range(1, 5)]
    random = np.random.default_rng(0)
    hits = {"raw_pixels": 0.4, "before_training": 0.39, "after_training": 0.739}
    queries = {
        row: {"recall@1": random.random(500) < share, "map@r": share * random.random(500)}
        for row, share in hits.items()
    }
    return RunRecord(
        **{
            "name": "quickstart",
            "path": "runs/quickstart",
            "about": "Characters & fonts.",
            "epochs_planned": 4,
            "epochs": [logs(n, each, **{"recall@1": 0.5 + 0.06 * n}) for n, each in enumerate(measured, start=1)],
            "before": health(18, 0.3, 0.35, last=None, start=None),
            "results": {
                row: {"recall@1": each["recall@1"].mean(), "map@r": each["map@r"].mean(), "queries": 500}
                for row, each in queries.items()
            },
            "queries": queries,
            "settings": [Setting("loss.sigma", "0.3", "3.0", "Width."), Setting("batch.size", "120", "120")],
            "facts": {"training images": "6,000", "keras": "3.15.1"},
            "evidence": evidence(),
            "saved_model": "saved_models/quickstart/1",
            **changes,
        }
    )


def ruined_run(**changes):
    measured = [health(3, 0.1, 0.2, cosine=0.98), health(1.4, 0.02, 0.1, cosine=0.998)]
    return RunRecord(
        **{
            "name": "ruined",
            "path": "runs/ruined",
            "status": "stopped",
            "stopped": "Training stopped after epoch 2, as the embedding collapses: images look alike to the network.",
            "epochs_planned": 8,
            "epochs": [logs(n, each, **{"recall@1": 0.15}) for n, each in enumerate(measured, start=1)],
            "before": health(18, 0.3, 0.35, last=None, start=None),
            "results": {"before_training": {"recall@1": 0.391, "map@r": 0.118, "queries": 500}},
            "settings": [Setting("loss.sigma", "0.05", "3.0"), Setting("batch.size", "120", "120")],
            "evidence": evidence(tested=False),
            **changes,
        }
    )
