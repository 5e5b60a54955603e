import re
from functools import cache

import pytest

from stml_tf.pages.comparison import as_json, compare_runs, comparison_page
from stml_tf.pages.report import report_page
from tests.pages.records import evidence, healthy_run, logs, ruined_run
from tests.pages.rules import assert_keeps_the_rules, contrast, read


@cache
def healthy_page():
    return report_page([healthy_run()])


@cache
def ruined_page():
    return report_page([ruined_run()])


def test_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


def test_the_text_tells_a_healthy_run_from_a_ruined_one():
    healthy, ruined = read(healthy_page()).text, read(ruined_page()).text
    assert "Healthy: it learned" in healthy and "Ruined" not in healthy and "collapsed" not in healthy
    assert "Ruined: the embedding collapsed" in ruined and "Healthy" not in ruined
    assert "health rose from 0.32 before training to 0.63" in healthy
    assert "health fell from 0.32 before training to 0.04" in ruined
    assert "Embeddings have lost their directions: they spread in 1.4, of 18.0 at best, and two different" in ruined
    assert "R@1 went from 39.1 percent before training to 15.0." in ruined
    assert "Training was stopped after epoch 2 of 8, and nothing was exported." in ruined
    assert "Lower optimizer.learning_rate" in ruined and "Lower optimizer.learning_rate" not in healthy
    assert "Health was still rising at the end: try more epochs" in healthy
    # The verdict comes first, before any number.
    assert healthy.index("Healthy: it learned") < healthy.index("Is it learning?") < healthy.index("Will it work?")


@pytest.mark.parametrize(
    "page",
    [
        healthy_page,
        ruined_page,
        lambda: report_page([healthy_run(), ruined_run(path="runs/other")]),
        lambda: report_page([healthy_run(evidence=None, queries={}, epochs=[], before=None)]),
        lambda: report_page([ruined_run(evidence=None, epochs=[], before=None)]),
    ],
    ids=["healthy", "ruined", "two", "nothing looked at", "nothing known"],
)
def test_every_page_keeps_the_rules(page):
    assert_keeps_the_rules(page())


def test_comparisons_keep_the_rules():
    assert_keeps_the_rules(comparison_page([healthy_run(), ruined_run()]))


def test_what_is_asked_is_answered_in_the_order_of_the_questions():
    page = healthy_page()
    headings = re.findall(r"<h2.*?>(.*?)</h2>", page)
    assert headings == [
        *("What came of it", "Is it learning?", "Will it work?", "Loss, time and memory"),
        *("What it thinks belongs together", "Classes, worst first", "Map of the embeddings", "Near-duplicates"),
        *("What the network saw", "Settings and versions", "What to try next"),
    ]
    text = read(page).text
    assert "raw pixels" in text and "after training" in text
    assert re.search(r"\d+\.\d to \d+\.\d", text)
    assert re.search(r"R@1: \+3\d\.\d points against (raw pixels|before training) \(95 % interval \+", text)
    assert "soup & <bread>" in text and "mistaken for" in text
    assert text.index("loss.sigma") < text.index("batch.size")
    assert "2 epochs" not in text and "4 epochs, without measuring" in text
    assert "3.15.1" in text


def test_a_run_without_test_images_is_told_by_health_and_neighbours():
    run = healthy_run(results={}, queries={}, evidence=evidence(tested=False))
    text = read(report_page([run])).text
    assert "Healthy: it learned" in text
    assert "There were no test images" in text and "give data.test a folder" in text
    assert "There are no labels: you judge." in text
    assert "The classes are not known." in text
    assert "12 training images in two dimensions, laid out by t-SNE" in text


def test_a_run_that_changed_nothing_is_not_said_to_have_learned():
    same = healthy_run().before
    run = healthy_run(results={}, queries={}, evidence=None, epochs=[logs(n, same) for n in (1, 2)])
    text = read(report_page([run])).text
    assert "Not ruined, but no better than before training" in text and "Healthy" not in text
    assert "health went from 0.32 before training to 0.32" in text


def test_a_run_below_what_is_free_is_not_called_healthy():
    results = {
        "frozen_features": {"recall@1": 0.9, "map@r": 0.3, "queries": 100},
        "after_training": {"recall@1": 0.8, "map@r": 0.2, "queries": 100},
    }
    text = read(report_page([healthy_run(results=results, queries={}, pretrained=True)])).text
    assert "Below what is free" in text and "Healthy" not in text
    assert "10.0 points of MAP@R below the best that is free, frozen features (30.0)" in text
    assert '"method": "whiten"' in text


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"status": "unfinished"}, "Not finished"),
        ({"status": "stopped", "stopped": "Training stopped at step 3: NaN."}, "Ruined: training had to stop"),
        ({"epochs": [], "epochs_planned": 0}, "Not trained"),
        ({"before": None}, "Trained; health was not measured"),
    ],
)
def test_other_ends_have_verdicts_of_their_own(changes, expected):
    assert expected in read(report_page([healthy_run(**changes)])).text


def test_two_runs_stand_side_by_side():
    page = read(report_page([healthy_run(), ruined_run()]))
    assert "Healthy: it learned" in page.text and "Ruined: the embedding collapsed" in page.text
    assert len(page.all("h2")) == 11


def test_a_name_is_text_never_markup():
    page = report_page([healthy_run(name="<b>&", path="runs/\udcff")])
    assert "<b>&" in read(page).text and "runs/?" in page


def test_a_comparison_names_what_differs_and_what_came_of_it():
    runs = [healthy_run(), ruined_run()]
    compared = compare_runs(runs)
    assert compared.names == ["quickstart", "ruined"]
    assert [(line.name, line.values) for line in compared.settings] == [("loss.sigma", ["0.3", "0.05"])]
    results = {line.name: line for line in compared.results}
    assert results["verdict"].values == ["Healthy: it learned", "Ruined: the embedding collapsed"]
    assert results["health, 0 to 1"].best == [True, False]
    assert results["R@1, percent"].values[1] == "–"
    assert results["training, seconds"].best == [False, True]
    first, second = as_json(runs)
    assert (first["verdict"], second["verdict"]) == tuple(results["verdict"].values)
    assert second["settings"] == {"loss.sigma": "0.05"} and [*second["results"]] == ["before_training"]


def test_runs_of_the_same_name_are_told_apart_by_their_folders():
    runs = [healthy_run(path="a/quickstart"), healthy_run(path="b/quickstart")]
    assert compare_runs(runs).names == ["a/quickstart", "b/quickstart"]
    assert compare_runs(runs).settings == []
