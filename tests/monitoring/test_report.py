from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from stml_tf.data.catalog import Catalog, ImageSet
from stml_tf.data.image_files import Leak, LeftOut
from stml_tf.monitoring.report import compared_with_free, describe_run, epochs_report, metrics_table, say

ROWS = {
    "raw_pixels": {"recall@1": 0.292, "recall@2": 0.4, "recall@8": 0.61, "map@r": 0.1, "queries": 20},
    "after_training": {"recall@1": 0.6154, "recall@2": 0.7, "recall@8": 0.5, "queries": 20},
}


def rendered(table, **options):
    console = Console(file=StringIO(), width=100, **options)
    console.print(table)
    return console.file.getvalue()


def test_percentages_with_one_decimal_in_order():
    text = rendered(metrics_table(ROWS, title="Unseen classes"))
    lines = [line.replace("│", " ").replace("┃", " ").split() for line in text.splitlines()]
    assert "Unseen classes" in text and "percent" in text
    assert ["R@1", "R@2", "R@8", "MAP@R"] in lines
    assert ["raw", "pixels", "29.2", "40.0", "61.0", "10.0"] in lines
    assert ["after", "training", "61.5", "70.0", "50.0", "–"] in lines


def test_the_best_of_a_column_is_bold():
    text = rendered(metrics_table(ROWS), force_terminal=True, color_system="standard")
    assert "\x1b[1m61.5\x1b[0m" in text and "\x1b[1m61.0\x1b[0m" in text
    assert "\x1b[1m29.2" not in text and "\x1b[1m50.0" not in text
    alone = rendered(metrics_table({"one": {"recall@1": 0.5}}), force_terminal=True, color_system="standard")
    assert "50.0" in alone and "\x1b[1m50.0" not in alone


FREE = {
    "frozen_features": {"dim": 1280, "recall@1": 0.742, "map@r": 0.114},
    "whitened_features": {"dim": 384, "recall@1": 0.891, "map@r": 0.215},
}


def test_the_rows_of_what_is_free_are_labelled():
    text = rendered(metrics_table(FREE))
    assert "frozen features" in text and "frozen, whitened to 384" in text and "_" not in text


def test_training_is_compared_with_the_best_that_is_free():
    better = compared_with_free({"recall@1": 0.937, "map@r": 0.328}, FREE)
    assert str(better) == (
        "Training was worth it: MAP@R 32.8, 11.3 points above the best without training, frozen, whitened to 384 (21.5)"
        "; R@1 93.7 against 89.1."
    )
    worse = compared_with_free({"recall@1": 0.937, "map@r": 0.205}, FREE)
    assert str(worse).startswith(
        "Training made it WORSE than no training: MAP@R 20.5, 1.0 points below frozen, whitened"
    )
    assert (worse.style, better.style) == ("bold red", "")


def test_columns_follow_k_as_a_number():
    text = rendered(metrics_table({"x": {"recall@10": 0.5, "recall@2": 0.2, "nmi": 0.7, "r_precision": 0.1}}))
    assert text.index("R@2") < text.index("R@10") < text.index("R-precision") < text.index("NMI")


@pytest.mark.parametrize("rows", [{}, {"x": {"queries": 3}}])
def test_nothing_to_show(rows):
    with pytest.raises(ValueError, match="no metrics to show"):
        metrics_table(rows)


def described(*, test=None, gallery=None, name="mine", about="Tries."):
    console = Console(file=StringIO(), width=40)
    catalog = Catalog(name, labelled(1_200), test, gallery)
    describe_run(console, catalog, title="run", about=about, network="conv4", training="2 epochs")
    return console.file.getvalue().splitlines()


def labelled(count):
    return ImageSet(np.zeros((count, 1, 1, 3), np.uint8), np.arange(count) % 3, ("a", "b", "c"))


def test_a_run_says_what_it_is_about_to_do():
    title, data, *others = described(test=labelled(6), gallery=labelled(9))
    assert title == "run  Tries."
    assert data == (
        "Data      mine: 1,200 training images without labels, 6 test images of 3 classes, which search 9 others"
    )
    assert others == ["Network   conv4", "Training  2 epochs"]
    assert described()[1].endswith("without labels, no test images")


def lines_of(catalog, **options):
    console = Console(file=StringIO(), width=40)
    describe_run(console, catalog, title="run", about="", network="conv4", training="2 epochs", **options)
    return console.file.getvalue().splitlines()


def test_other_classes_are_said_where_they_are_known_alone():
    train, test = labelled(12).take([0, 3, 1]), labelled(12).take([2, 5])
    assert lines_of(Catalog("mine", train, test))[1].endswith("2 test images of 1 other classes")
    for catalog in (
        Catalog("mine", labelled(12), test),
        Catalog("mine", ImageSet(train.images), test),
        Catalog("mine", train, test, unlabeled=ImageSet(train.images)),
        Catalog("mine", train, test, leaks=(Leak(Path("a"), Path("b")),)),
    ):
        assert lines_of(catalog)[1].endswith("2 test images of 1 classes")


def test_what_was_left_out_and_what_leaks_is_counted_and_a_dry_run_claims_no_list():
    left_out = (LeftOut(Path("a.txt"), "no image"), LeftOut(Path(".b"), "hidden"), LeftOut(Path("c.txt"), "no image"))
    catalog = Catalog("mine", labelled(9), labelled(6), left_out=left_out, leaks=(Leak(Path("a"), Path("b")),))
    assert lines_of(catalog)[2:4] == [
        "Left out  no image: 2, hidden: 1 (listed in the run folder's left_out.txt)",
        "Leaks     1 of 6 test images are training images too, as data.allow_leaks lets them be (listed in the run "
        "folder's leaks.txt)",
    ]
    for line, file in zip(lines_of(catalog, dry_run=True)[2:4], ("left_out.txt", "leaks.txt"), strict=True):
        assert line.endswith(f"(a run without --dry-run lists them in the run folder's {file})")


@pytest.mark.parametrize("text", ["[red]shoes[/red]", "[/]", "[link=x]", "\\[bold]", "a :smile: b", "[1, 2]", "Straße"])
def test_what_looks_like_markup_is_shown_as_it_is(text):
    title, data, *_ = described(name=text, about=text)
    assert title == f"run  {text}"
    assert data.startswith(f"Data      {text}: 1,200")
    console = Console(file=StringIO(), width=20)
    say(console, f"SavedModel /photos/{text}/1")
    assert console.file.getvalue() == f"SavedModel /photos/{text}/1\n"
    assert text in rendered(metrics_table({text: {"recall@1": 0.5}}))


def test_the_best_epoch_is_named_as_what_it_is():
    history = [{"loss": 3.0, "recall@1": 0.2}, {"loss": 2.0, "recall@1": 0.5}, {"loss": 1.0, "recall@1": None}]
    report = epochs_report(history)
    assert report["epochs"] == [{"epoch": number, **logs} for number, logs in enumerate(history, start=1)]
    assert report["best_epoch"] == {"epoch": 2, "loss": 2.0, "recall@1": 0.5, "chosen_on": "test classes"}
    assert epochs_report([{"loss": 1.0}]) == {"epochs": [{"epoch": 1, "loss": 1.0}]}
