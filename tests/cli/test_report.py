import json
import re

import numpy as np
import pytest
from click.testing import CliRunner

from stml_tf.cli.main import main
from stml_tf.evaluation.query_results import QueryResults
from stml_tf.files import read_json, write_json
from stml_tf.recipe.load import load_recipe
from stml_tf.runs.folder import RunFolder
from stml_tf.runs.record import keep_queries, read_run
from tests.pages.records import evidence, healthy_run, ruined_run


def call(*arguments):
    done = CliRunner().invoke(main, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    return done.exit_code, done.output


def write_run(path, told, *overrides):
    """Write the folder of a run, of which `told` tells."""
    folder = RunFolder(path)
    folder.open(load_recipe("quickstart", overrides))
    folder.keep_json(
        "history",
        {
            "before": vars(told.before),
            "pretrained": told.pretrained,
            "epochs": list(told.epochs),
            "stopped": told.stopped,
            "training_images": 6000,
            "test_images": 500,
            "steps_per_epoch": 50,
            "made_with": {"keras": "3.15.1"},
        },
    )
    folder.keep_json("baselines", {row: metrics for row, metrics in told.results.items() if row in told.free})
    folder.keep_json("evidence", told.evidence.to_json())
    if told.status == "finished":
        rows = np.arange(500)
        keep_queries(
            folder,
            {
                row: QueryResults((1,), rows, 500, each["recall@1"][:, None], each["map@r"], each["map@r"], rows)
                for row, each in told.queries.items()
            },
        )
        folder.write_metrics({**told.results, "epochs": list(told.epochs), "saved_model": "saved_models/quickstart/1"})
    return path


@pytest.fixture
def runs(tmp_path):
    healthy = write_run(tmp_path / "healthy", healthy_run(), "training.epochs=4")
    ruined = write_run(tmp_path / "ruined", ruined_run(), "loss.sigma=0.05", "training.epochs=4")
    return healthy, ruined


def test_a_folder_tells_what_was_written_into_it(runs):
    record = read_run(runs[0])
    assert record.status == "finished" and record.epochs_planned == 4
    assert record.before == healthy_run().before
    assert [*record.results] == ["raw_pixels", "before_training", "after_training"]
    np.testing.assert_array_equal(
        record.queries["after_training"]["recall@1"], healthy_run().queries["after_training"]["recall@1"]
    )
    assert record.evidence == evidence()
    assert record.facts == {"training images": "6,000", "test images": "500", "steps an epoch": "50", "keras": "3.15.1"}
    settings = {setting.key: setting for setting in record.settings}
    assert settings["loss.sigma"].value == "0.3" and settings["loss.sigma"].default == "3.0"
    assert settings["loss.sigma"].differs and not settings["evaluation.normalize"].differs
    assert settings["views.size"].default is None
    assert read_run(runs[1]).status == "stopped"
    assert read_run(runs[1]).results == ruined_run().results


def test_report_writes_the_page_of_each_run_again(runs):
    status, output = call("report", *runs)
    assert status == 0, output
    healthy, ruined = ((run / "report.html").read_text() for run in runs)
    assert "Healthy: it learned" in healthy and "Ruined: the embedding collapsed" in ruined
    assert output.splitlines() == [f"Page written to {run / 'report.html'}" for run in runs]


def test_report_writes_one_page_of_several_runs(runs, tmp_path):
    page = tmp_path / "both.html"
    assert call("report", *runs, "-o", page)[0] == 0
    assert "Healthy: it learned" in page.read_text() and "Ruined: the embedding collapsed" in page.read_text()
    assert not (runs[0] / "report.html").exists()
    status, output = call("report", *runs, "-o", page)
    assert status == 2 and "exists already" in output
    assert call("report", runs[0], "-o", page, "--overwrite")[0] == 0
    page.write_text("mine")
    status, output = call("report", *runs, "-o", page, "--overwrite")
    assert status == 2 and "was not written by this command" in output


def test_compare_prints_what_differs(runs, tmp_path):
    status, output = call("compare", *runs, "--html", tmp_path / "compared.html")
    assert status == 0, output
    lines = [" ".join(line.strip("│ ").split()) for line in output.splitlines()]
    assert "verdict │ Healthy: it learned │ Ruined: the embedding collapsed" in lines
    assert "loss.sigma │ 0.3 │ 0.05" in lines
    assert not any(line.startswith("batch.size") for line in lines)
    assert "Settings that differ" in (tmp_path / "compared.html").read_text()


def test_compare_prints_json(runs):
    status, output = call("compare", *runs, "--json")
    assert status == 0
    first, second = json.loads(output)
    assert first["results"]["after_training"]["recall@1"] == pytest.approx(
        healthy_run().results["after_training"]["recall@1"]
    )
    assert second["settings"] == {"loss.sigma": "0.05"}


@pytest.mark.parametrize("command", ["report", "compare"])
def test_what_is_no_run_is_refused(runs, tmp_path, command):
    status, output = call(command, runs[0], tmp_path / "nothing")
    assert status == 2 and "is not a run folder: it lacks recipe.json" in output


def test_one_run_alone_is_not_compared(runs):
    status, output = call("compare", runs[0])
    assert status == 2 and "one run given, but a comparison needs two or more" in output


def test_a_damaged_file_is_named(runs):
    (runs[0] / "history.json").write_text("{}")
    status, output = call("report", runs[0])
    assert status == 2 and "history.json holds no checksum" in output


@pytest.mark.parametrize("command", ["report", "compare"])
@pytest.mark.parametrize(
    ("file", "change", "where"),
    [
        ("history", lambda told: told["before"].pop("shared_neighbors"), r"before\.shared_neighbors: Field required"),
        ("history", lambda told: told.update(epochs=[{"health": "high"}]), r"epochs\.0\.health"),
        (
            "metrics",
            lambda told: told["after_training"].update({"recall@1": "most"}),
            r"results\.after_training\.recall",
        ),
        ("evidence", lambda told: told.pop("views"), "views: Field required"),
    ],
)
def test_a_run_of_another_version_is_refused_in_one_message(runs, command, file, change, where):
    path = runs[0] / f"{file}.json"
    told = read_json(path)
    change(told)
    write_json(path, told)
    status, output = call(command, *runs)
    assert status == 2
    assert re.search(rf"{file}\.json is not what this version of stml-tf writes \({where}", output)


def test_a_recipe_without_a_name_is_refused(runs):
    (runs[0] / "recipe.json").write_text("{}")
    status, output = call("report", *runs)
    assert status == 2 and "name: Field required" in output


def test_runs_on_different_data_are_not_ranked(tmp_path, runs):
    other = write_run(tmp_path / "other", healthy_run(), "data.num_classes=900", "training.epochs=4")
    status, output = call("compare", runs[0], other, "--html", tmp_path / "page.html")
    told = "The runs have different data, so health, R@1 and MAP@R are not comparable."
    page = (tmp_path / "page.html").read_text()
    assert status == 0 and told in output and told in page and "<b>" not in page
    status, output = call("compare", *runs)
    assert status == 0 and "comparable" not in output


def test_counts_are_whole_numbers(runs):
    assert call("report", runs[0])[0] == 0
    assert re.search(r"On 500 test queries", (runs[0] / "report.html").read_text())
