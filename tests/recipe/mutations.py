"""Recipes with something wrong in them, as many as one likes."""

import copy
import json

ODD = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 1.0, 0.5, -0.5, 1e-300, 1e300, 1e400, float("nan"), -float("inf")),
    *(2**31 - 1, 2**31, 2**32, 2**63, 10**9, 10**20, 10**400, -(10**400)),
    *("", "x", "0", "null", "all", "imagenet", "triplet", "adam", "supervised", "moco", "folder", "tfds:", "cub"),
    *("\ud800", "a\udfffb", "\0", "/", "..", "/dev/null", "/etc", "x" * 300, "x" * 5000, "é", "[red]", "{}", "%s"),
    *([], [[]], [1], [1, 1], [0.1, 0.2, 0.3], ["a"], [None], {}, {"a": 1}, {"name": "glyphs"}, {"": ""}),
    *({"\ud800": 1}, {"9" * 400: 1}, {"name": ["glyphs"]}, {"name": {}}, {"weights": "x"}, {"num_classes": 3}),
    *({"a": float("nan")}, {"margin": [float("inf")]}),
)


def nested(depth, kind="list"):
    return "[" * depth + "]" * depth if kind == "list" else '{"a":' * depth + "1" + "}" * depth


TEXTS = (
    *(nested(30), nested(300), nested(2000), nested(100_000), nested(300, "object"), nested(2000, "object")),
    *("9" * 4301, "-" + "9" * 5000, "1e99999999", "NaN", "Infinity", '"\\ud800"', '"\\u0000"', "'x'", "", "nul"),
)


def paths(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths(inner, (*path, key))


def at(document, path):
    for key in path:
        document = document[key]
    return document


def mutated(document, random):
    """The text of a recipe that differs from a good one in one to three places."""
    document = copy.deepcopy(document)
    for _ in range(random.integers(1, 4)):
        places = [path for path in paths(document) if path]
        if not places:
            break
        *parents, key = places[random.integers(len(places))]
        section = at(document, parents)
        kind, value = random.integers(9), section[key]
        if kind > 5 and isinstance(value, int | float) and not isinstance(value, bool):
            section[key] = value * type(value)(random.choice([2, 3, 10])) + type(value)(random.integers(2))
        elif kind == 0:
            del section[key]
        elif kind == 1 and isinstance(section, dict):
            section[f"{key}x" if random.integers(2) else "9" * 400] = section.pop(key)
        elif kind == 2:
            section[key] = {"TEXT": int(random.integers(len(TEXTS)))}
        else:
            section[key] = copy.deepcopy(ODD[random.integers(len(ODD))])
    text = json.dumps(document, ensure_ascii=bool(random.integers(2)))
    for number, raw in enumerate(TEXTS):
        text = text.replace(f'{{"TEXT": {number}}}', raw)
    kind = random.integers(12)
    cut = int(random.integers(len(text) + 1))
    if kind == 0:
        text = text[:cut]
    elif kind == 1:
        text = text[:cut] + chr(random.integers(1, 0x250)) + text[cut:]
    elif kind == 2:
        text = text.replace('"name"', '"name": "twice", "name"', 1)
    return text.encode("utf-8", "surrogatepass")
