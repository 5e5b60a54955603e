import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stml_tf.errors import UserError
from stml_tf.recipe.load import load_recipe, read_document
from stml_tf.runs.search_space import (
    Choices,
    Range,
    as_override,
    grid,
    grid_size,
    overrides_of,
    parse_parameters,
    require_accepted,
)

QUICKSTART = read_document("quickstart")[1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("loss.sigma=0.1,0.3,1", Choices("loss.sigma", (0.1, 0.3, 1))),
        ("loss.sigma=0.1, 0.3", Choices("loss.sigma", (0.1, 0.3))),
        ("loss.sigma=.5,1e-1", Choices("loss.sigma", (0.5, 0.1))),
        ("optimizer.name=adamp,adamw", Choices("optimizer.name", ("adamp", "adamw"))),
        ('model.weights="a,b.h5",null', Choices("model.weights", ("a,b.h5", None))),
        ("views.crop_scale=[0.2,1.0],[0.5,1.0]", Choices("views.crop_scale", ([0.2, 1.0], [0.5, 1.0]))),
        ('model.trainable="all",{"lora": 4}', Choices("model.trainable", ("all", {"lora": 4}))),
        ("teacher.center=true,false", Choices("teacher.center", (True, False))),
        ("model.weights=../a.h5,../b.h5", Choices("model.weights", ("../a.h5", "../b.h5"))),
        ("loss.sigma=0.1..1", Range("loss.sigma", 0.1, 1)),
        ("loss.sigma=1e-3..1e-1:log", Range("loss.sigma", 0.001, 0.1, log=True)),
        ("sampling.num_neighbors=2..6", Range("sampling.num_neighbors", 2, 6)),
        ("x.y=-1.5..-.5", Range("x.y", -1.5, -0.5)),
    ],
)
def test_parameters_are_choices_or_ranges(text, expected):
    assert parse_parameters([text]) == [expected]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "No --param was given.*allowed: KEY.PATH=VALUE,VALUE,... such as loss.sigma=0.1,0.3,1"),
        (["loss.sigma"], "--param loss.sigma was given; allowed: KEY.PATH=VALUE"),
        (["=1,2"], "--param =1,2 was given; allowed"),
        (["loss..sigma=1,2"], "--param loss..sigma=1,2 was given; allowed"),
        (["loss.sigma="], "--param loss.sigma= was given; allowed"),
        (["loss.sigma=1"], "is a single value; allowed.*goes to --set"),
        (["loss.sigma=1,,2"], "a value that is empty or there twice"),
        (["loss.sigma=1,2,1"], "a value that is empty or there twice"),
        (["loss.sigma=1..0.1"], "allowed: a range from a smaller number to a larger one"),
        (["loss.sigma=1..1"], "allowed: a range from a smaller number to a larger one"),
        (["loss.sigma=0.1..1e999"], "allowed: a range from a smaller number to a larger one"),
        (["loss.sigma=0..1:log"], "allowed with :log: a range of numbers above 0"),
        (["loss.sigma=1,2", "loss.sigma=3,4"], "--param loss.sigma was given 2 times; allowed: once"),
        (["loss=1,2", "loss.sigma=3,4"], "--param loss was given together with loss.sigma, which is a part of it"),
    ],
)
def test_a_malformed_parameter_is_refused_with_what_is_allowed(texts, message):
    with pytest.raises(UserError, match=message):
        parse_parameters(texts)


PLAIN = st.one_of(
    st.booleans(),
    st.none(),
    st.integers(-(10**9), 10**9),
    st.floats(-1e30, 1e30),
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")),
)


@example([{"\\": None}, None])
@example(['\\",', ["a,b", '"']])
@given(st.lists(st.one_of(PLAIN, st.lists(PLAIN), st.dictionaries(st.text(max_size=3), PLAIN)), min_size=2, max_size=5))
def test_values_written_as_json_come_back(values):
    written = [json.dumps(value) for value in values]
    if len(set(written)) < len(written) or "" in values:
        return
    [parameter] = parse_parameters([f"key={','.join(written)}"])
    assert parameter == Choices("key", tuple(values))
    assert [parameter.loaded(parameter.stored(value)) for value in values] == values


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    try:
        [parameter] = parse_parameters([text])
    except UserError:
        return
    assert text.startswith(parameter.key) and len(parameter.examples) >= 2


@given(PLAIN)
def test_a_setting_on_the_command_line_is_read_back(value):
    override = as_override("method_options.x", value)
    _, document = read_document(QUICKSTART, [override])
    assert document["method_options"]["x"] == value


def test_the_grid_has_every_combination_and_a_range_none():
    parameters = parse_parameters(["a=1,2", "b=x,y,z"])
    assert len(list(grid(parameters))) == grid_size(parameters) == 6
    assert list(grid(parameters))[:2] == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}]
    with_range = [*parameters, Range("c", 0.0, 1.0)]
    assert grid(with_range) is None and grid_size(with_range) == math.inf


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["loss.sgima=1,2"], r"--param loss.sgima=1 does not fit quickstart:\n  loss.sgima: unknown key"),
        (["loss.sigma=0.3,-1"], r"--param loss.sigma=-1 does not fit.*loss.sigma.*-1 given"),
        (["loss.sigma=-1..1"], r"--param loss.sigma=-1 does not fit"),
        (["optimizer.name=adamp,adma"], r"--param optimizer.name=adma does not fit"),
        (["sampling.num_neighbors=4,7"], r"num_neighbors=7 does not fit.*\n  batch.size: 120 given"),
    ],
)
def test_what_the_recipe_takes_in_no_combination_is_refused(texts, message):
    with pytest.raises(UserError, match=rf"(?s){message}"):
        require_accepted(parse_parameters(texts), QUICKSTART, "quickstart")


def test_what_is_wrong_with_the_recipe_itself_is_said_of_the_recipe():
    with pytest.raises(UserError, match=r"^quickstart:\n  loss.delta: .*-1 given"):
        require_accepted(
            parse_parameters(["loss.sigma=1,2"]), read_document("quickstart", ["loss.delta=-1"])[1], "quickstart"
        )


def test_values_may_need_each_other():
    parameters = parse_parameters(["sampling.num_neighbors=4,7", "batch.size=120,84"])
    require_accepted(parameters, QUICKSTART, "quickstart")
    assert load_recipe(QUICKSTART, overrides_of({"sampling.num_neighbors": 7, "batch.size": 84})).batch.size == 84
