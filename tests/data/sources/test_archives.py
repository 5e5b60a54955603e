import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from stml_tf.data.sources import archives
from stml_tf.data.sources.archives import extract
from stml_tf.errors import UserError


@pytest.fixture
def packed(tmp_path):
    """Makes an archive of a folder `birds` with two files, and a stray one beside it."""

    def pack(kind):
        folder = tmp_path / "original"
        (folder / "birds").mkdir(parents=True)
        (folder / "birds" / "one.txt").write_text("one" * 5000)
        (folder / "birds" / "two.txt").write_text("two")
        (folder / "stray.txt").write_text("stray")
        place = tmp_path / "downloads"
        place.mkdir()
        return Path(shutil.make_archive(str(place / "birds"), kind, folder))

    return pack


@pytest.mark.parametrize("kind", ["gztar", "tar", "zip"])
def test_what_is_wanted_lies_beside_the_archive(packed, kind, capsys):
    archive = packed(kind)
    target = extract(archive, "birds")
    assert target == archive.parent / "birds"
    assert (target / "one.txt").read_text() == "one" * 5000
    assert {entry.name for entry in archive.parent.iterdir()} == {archive.name, "birds"}
    assert capsys.readouterr().err == f"Extracting {archive} to {target} (this is done once) ...\n"


def test_it_is_done_once(packed, capsys):
    archive = packed("zip")
    extract(archive, "birds")
    capsys.readouterr()
    archive.write_bytes(b"no longer an archive")
    extract(archive, "birds")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", ["gztar", "tar", "zip"])
def test_a_truncated_archive_leaves_nothing(packed, kind):
    archive = packed(kind)
    archive.write_bytes(archive.read_bytes()[: -archive.stat().st_size // 2])
    with pytest.raises(
        ValueError, match=r"birds\..* cannot be extracted \(.*incomplete, damaged or locked; download it"
    ):
        extract(archive, "birds")
    assert list(archive.parent.iterdir()) == [archive]


def test_an_interruption_leaves_nothing(packed, monkeypatch):
    archive = packed("gztar")

    def interrupted(source, folder, **options):
        (folder / "birds").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(archives.shutil, "unpack_archive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        extract(archive, "birds")
    assert list(archive.parent.iterdir()) == [archive]


def test_another_archive_is_refused(packed):
    with pytest.raises(ValueError, match=r"should hold cars, but holds birds, stray\.txt"):
        extract(packed("zip"), "cars")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "birds.tgz").write_text("<html>Not found</html>")
    with pytest.raises(ValueError, match=r"birds\.tgz cannot be extracted"):
        extract(tmp_path / "birds.tgz", "birds")


def test_an_archive_may_not_write_elsewhere(tmp_path):
    (tmp_path / "evil.txt").write_text("evil")
    place = tmp_path / "downloads"
    place.mkdir()
    with tarfile.open(place / "birds.tgz", "w:gz") as archive:
        archive.add(tmp_path / "evil.txt", "../outside.txt")
    with pytest.raises(ValueError, match=r"cannot be extracted \(.*outside"):
        extract(place / "birds.tgz", "birds")
    assert not (tmp_path / "outside.txt").exists()


def test_who_is_second_takes_what_the_first_extracted(packed, monkeypatch):
    archive = packed("zip")
    unpack = archives.shutil.unpack_archive

    def slowly(source, folder, **options):
        unpack(source, folder, **options)
        (archive.parent / "birds").mkdir()
        (archive.parent / "birds" / "first.txt").touch()

    monkeypatch.setattr(archives.shutil, "unpack_archive", slowly)
    assert [file.name for file in extract(archive, "birds").iterdir()] == ["first.txt"]


@pytest.mark.parametrize("kind", ["gztar", "zip", "bztar", "xztar"])
def test_no_flipped_bit_alters_what_comes_out(packed, kind):
    archive = packed(kind)
    whole = archive.read_bytes()
    for place in np.random.default_rng(0).permutation(len(whole))[:40]:
        archive.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        try:
            target = extract(archive, "birds")
        except UserError:
            assert list(archive.parent.iterdir()) == [archive]
            continue
        found = {path.name: path.read_text() for path in target.iterdir()}
        assert found == {"one.txt": "one" * 5000, "two.txt": "two"}, "a bit that says nothing of the content"
        shutil.rmtree(target)
