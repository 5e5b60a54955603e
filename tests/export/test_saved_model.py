import shutil

import pytest

from stml_tf.export.saved_model import find_saved_model, fingerprint, require_same_model, require_saved_model


def fake_model(folder, graph=b"graph", variables=b"numbers"):
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(graph)
    (folder / "variables" / "variables.index").write_bytes(b"index")
    (folder / "variables" / "variables.data-00000-of-00001").write_bytes(variables)
    return folder


def test_the_newest_version_is_found_by_number(tmp_path):
    for version in ("2", "10"):
        fake_model(tmp_path / "birds" / version)
    (tmp_path / "birds" / "11").mkdir()  # Holds no model.
    assert find_saved_model(tmp_path / "birds") == tmp_path / "birds" / "10"
    assert find_saved_model(tmp_path / "birds" / "2") == tmp_path / "birds" / "2"
    assert find_saved_model(tmp_path / "birds" / "11") is None
    assert find_saved_model(tmp_path / "nowhere") is None


def test_the_fingerprint_is_of_graph_and_variables_alone(tmp_path):
    first = fake_model(tmp_path / "1")
    shutil.copytree(first, tmp_path / "copy")
    (tmp_path / "copy" / "model_card.md").write_text("another name")
    assert fingerprint(tmp_path / "copy") == fingerprint(first)
    others = [
        fake_model(tmp_path / "graph", graph=b"GRAPH"),
        fake_model(tmp_path / "variables", variables=b"NUMBERS"),
        fake_model(tmp_path / "shifted", graph=b"graphi", variables=b"umbers"),
    ]
    assert len({fingerprint(folder) for folder in [first, *others]}) == 4


def test_refuses_what_is_no_model(tmp_path):
    with pytest.raises(ValueError, match="is no SavedModel: neither it nor a numbered folder in it holds saved_model"):
        require_saved_model(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ValueError, match="is the folder of a run, not a SavedModel: write one with `stml-tf export"):
        require_saved_model(tmp_path)


def test_refuses_another_model(tmp_path):
    first, second = fake_model(tmp_path / "a" / "1"), fake_model(tmp_path / "b" / "1", graph=b"GRAPH")
    assert require_same_model(tmp_path / "a", fingerprint(first), product=tmp_path) == first
    with pytest.raises(ValueError, match=rf"was made by another model \(fingerprint {fingerprint(first)[:12]}\) than"):
        require_same_model(second, fingerprint(first), product=tmp_path)
