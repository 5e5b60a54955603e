"""Archives that were made to do harm: nothing is run, nothing is written elsewhere, and one message says so."""

import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile

import pytest

from stml_tf.data.sources import archives
from stml_tf.errors import UserError
from tests.hostile import harmful_pickle

TARS = {}
ZIPS = {}
BYTES = {}


def tar(suffix=".tgz"):
    """Register a case: a function that adds to a tar archive which holds `birds/one.txt` already."""

    def register(add):
        TARS[add.__name__] = add, suffix
        return add

    return register


def zip_(add):
    ZIPS[add.__name__] = add
    return add


def raw(suffix):
    def register(make):
        BYTES[make.__name__] = make, suffix
        return make

    return register


def member(name, *, kind=tarfile.REGTYPE, link="", content=b"evil", **fields):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    for field, value in fields.items():
        setattr(info, field, value)
    return info, io.BytesIO(content if kind == tarfile.REGTYPE else b"")


@tar()
def parent_folder(archive):
    archive.addfile(*member("../outside.txt"))


@tar()
def parent_within_the_wanted(archive):
    archive.addfile(*member("birds/../../../outside.txt"))


@tar()
def absolute_path_into_the_parents(archive):
    archive.addfile(*member("birds/x/../../../../../../outside.txt"))


@tar()
def link_to_a_file_outside(archive):
    archive.addfile(*member("birds/link", kind=tarfile.SYMTYPE, link="../../outside.txt"))


@tar()
def link_to_an_absolute_path(archive):
    archive.addfile(*member("birds/link", kind=tarfile.SYMTYPE, link="/etc/passwd"))


@tar()
def link_that_leads_out_once_it_lies_in_its_place(archive):
    archive.addfile(*member("birds/link", kind=tarfile.SYMTYPE, link="../outside.txt"))


@tar()
def link_to_itself(archive):
    archive.addfile(*member("birds/link", kind=tarfile.SYMTYPE, link="link"))


@tar()
def file_written_through_a_link(archive):
    archive.addfile(*member("birds/up", kind=tarfile.SYMTYPE, link=".."))
    archive.addfile(*member("birds/up/up", kind=tarfile.SYMTYPE, link=".."))
    archive.addfile(*member("birds/up/up/outside.txt"))


@tar()
def links_longer_than_a_path_may_be(archive):
    """As in CVE-2025-4517: what `realpath` no longer resolves."""
    folder, steps = "birds", "d" * 247
    for step in "abcdefghijklmnop":
        archive.addfile(*member(f"{folder}/{steps}", kind=tarfile.DIRTYPE))
        archive.addfile(*member(f"{folder}/{step}", kind=tarfile.SYMTYPE, link=steps))
        folder += f"/{steps}"
    archive.addfile(*member("birds/" + "/".join("abcdefghijklmnop") + "/" + "l" * 254, kind=tarfile.SYMTYPE, link=".."))


@tar()
def hard_link_outside(archive):
    archive.addfile(*member("birds/link", kind=tarfile.LNKTYPE, link="../outside.txt"))


@tar()
def hard_link_to_an_absolute_path(archive):
    archive.addfile(*member("birds/link", kind=tarfile.LNKTYPE, link="/etc/passwd"))


@tar()
def hard_link_to_a_link(archive):
    archive.addfile(*member("birds/a", kind=tarfile.SYMTYPE, link="/etc/passwd"))
    archive.addfile(*member("birds/b", kind=tarfile.LNKTYPE, link="birds/a"))


@tar()
def wanted_folder_is_a_link(archive):
    archive.addfile(*member("birds", kind=tarfile.SYMTYPE, link="/"))


@tar()
def character_device(archive):
    archive.addfile(*member("birds/null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3))


@tar()
def block_device(archive):
    archive.addfile(*member("birds/disk", kind=tarfile.BLKTYPE, devmajor=8, devminor=0))


@tar()
def pipe(archive):
    archive.addfile(*member("birds/pipe", kind=tarfile.FIFOTYPE))


@tar()
def sparse_file_of_a_terabyte(archive):
    archive.addfile(
        *member(
            "birds/sparse",
            pax_headers={
                "GNU.sparse.major": "0",
                "GNU.sparse.minor": "1",
                "GNU.sparse.map": "0,1,1099511627775,1",
                "GNU.sparse.size": str(1 << 40),
            },
        )
    )


@tar(".tar")
def file_that_is_a_folder_as_well(archive):
    archive.addfile(*member("birds/a"))
    archive.addfile(*member("birds/a/b"))


@tar()
def name_longer_than_a_name_may_be(archive):
    archive.addfile(*member("birds/" + "n" * 300))


@tar(".tar")
def header_of_more_bytes_than_there_are(archive):
    info, _ = member("birds/huge")
    info.size = 1 << 60
    archive.fileobj.write(info.tobuf(tarfile.PAX_FORMAT))


@tar(".tar")
def extended_header_of_more_bytes_than_there_are(archive):
    info, _ = member("birds/huge", kind=tarfile.XHDTYPE)
    info.size = 1 << 50
    archive.fileobj.write(info.tobuf(tarfile.GNU_FORMAT))


@tar(".tar")
def long_name_of_more_bytes_than_there_are(archive):
    info, _ = member("././@LongLink", kind=tarfile.GNUTYPE_LONGNAME)
    info.size = 1 << 50
    archive.fileobj.write(info.tobuf(tarfile.GNU_FORMAT))


@tar(".tar")
def negative_size(archive):
    info, _ = member("birds/less")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 11 + b"\x00"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    archive.fileobj.write(bytes(header))


@tar(".tar")
def extended_header_of_rubbish(archive):
    info, _ = member("birds/a", kind=tarfile.XHDTYPE)
    info.size = 7
    archive.fileobj.write(info.tobuf(tarfile.GNU_FORMAT) + b"rubbish".ljust(512, b"\0"))


@zip_
def zip_parent_folder(archive):
    archive.writestr("../outside.txt", "evil")


@zip_
def zip_parent_within_the_wanted(archive):
    archive.writestr("birds/../../outside.txt", "evil")


@zip_
def zip_absolute_path(archive):
    archive.writestr("/tmp/stml-tf-outside.txt", "evil")


@zip_
def zip_link(archive):
    info = zipfile.ZipInfo("birds/link")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    archive.writestr(info, "/etc/passwd")


@zip_
def zip_file_that_is_a_folder_as_well(archive):
    archive.writestr("birds/a", "evil")
    archive.writestr("birds/a/b", "evil")


@zip_
def zip_name_longer_than_a_name_may_be(archive):
    archive.writestr("birds/" + "n" * 300, "evil")


def whole_zip():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("birds/one.txt", "one" * 5000)
    return content.getvalue()


def whole_tar(kind="w"):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=kind) as archive:
        archive.addfile(*member("birds/one.txt", content=b"one" * 5000))
    return content.getvalue()


@raw(".zip")
def zip_with_a_password(*_):
    content = bytearray(whole_zip())
    content[6] |= 1
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


@raw(".zip")
def zip_of_an_unknown_method(*_):
    content = bytearray(whole_zip())
    content[8] = content[content.rindex(b"PK\x01\x02") + 10] = 77
    return bytes(content)


@raw(".zip")
def zip_of_a_wrong_checksum(*_):
    content = bytearray(whole_zip())
    content[content.rindex(b"PK\x01\x02") + 16] ^= 1
    return bytes(content)


@raw(".zip")
def zip_that_says_it_is_smaller_than_it_is(*_):
    content = bytearray(whole_zip())
    struct.pack_into("<I", content, content.rindex(b"PK\x01\x02") + 24, 10)
    return bytes(content)


@raw(".zip")
def zip_without_its_end(*_):
    return whole_zip()[:-30]


@raw(".tgz")
def gzip_with_a_wrong_trailer(*_):
    content = bytearray(gzip.compress(whole_tar()))
    content[-6] ^= 1
    return bytes(content)


@raw(".tgz")
def gzip_without_its_trailer(*_):
    return gzip.compress(whole_tar())[:-8]


@raw(".tgz")
def gzip_with_rubbish_behind_it(*_):
    return gzip.compress(whole_tar()) + b"rubbish"


@raw(".tar.bz2")
def bzip2_cut_short(*_):
    return bz2.compress(whole_tar())[:-9]


@raw(".tar.xz")
def xz_with_a_wrong_check(*_):
    content = bytearray(lzma.compress(whole_tar()))
    content[-20] ^= 1
    return bytes(content)


@raw(".tgz")
def zip_called_tgz(*_):
    return whole_zip()


@raw(".zip")
def tar_called_zip(*_):
    return whole_tar()


@raw(".tgz")
def pickle_that_would_run(mark):
    return harmful_pickle(mark)


@raw(".tgz")
def script_that_would_run(mark):
    return f"#!/bin/sh\ntouch {mark}\n".encode()


@raw(".tgz")
def nothing(*_):
    return b""


CASES = [*TARS, *ZIPS, *BYTES]


def make(name, folder, mark):
    if name in TARS:
        add, suffix = TARS[name]
        file = folder / f"birds{suffix}"
        with tarfile.open(file, "w" if suffix == ".tar" else "w:gz") as archive:
            if name != "wanted_folder_is_a_link":
                archive.addfile(*member("birds/one.txt"))
            add(archive)
    elif name in ZIPS:
        file = folder / "birds.zip"
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("birds/one.txt", "one")
            ZIPS[name](archive)
    else:
        content, suffix = BYTES[name]
        file = folder / f"birds{suffix}"
        file.write_bytes(content(mark))
    return file


def everything(folder):
    return {path: path.lstat() for path in folder.rglob("*")}


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_run_or_written_and_one_message_says_why(tmp_path, name):
    mark, place = tmp_path / "was_run", tmp_path / "deep" / "downloads"
    place.mkdir(parents=True)
    (tmp_path / "deep" / "mine.txt").write_text("mine")
    archive = make(name, place, mark)
    before = everything(tmp_path).keys()
    with pytest.raises(UserError) as raised:
        archives.extract(archive, "birds")
    message = str(raised.value)
    assert message.startswith(f"{archive} cannot be extracted (")
    assert message.endswith("download it again, or extract it yourself")
    assert "\n" not in message
    assert everything(tmp_path).keys() == before
    assert not os.path.exists("/tmp/stml-tf-outside.txt")  # noqa: PTH110


def test_there_are_as_many_cases_as_were_tried_once():
    assert len(CASES) >= 34


@pytest.mark.parametrize("suffix", [".tgz", ".zip"])
def test_an_archive_that_would_fill_the_disk_is_refused_before_it_does(tmp_path, monkeypatch, suffix):
    archive = tmp_path / f"birds{suffix}"
    archive.write_bytes(whole_zip() if suffix == ".zip" else whole_tar("w:gz"))
    real = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real._replace(free=10_000))
    with pytest.raises(OSError, match=r"No space left on device: about 0\.0 MB are needed, and 0\.0 MB are free"):
        archives.extract(archive, "birds")
    assert [path.name for path in tmp_path.iterdir()] == [archive.name]


def test_what_is_harmless_comes_out_though_it_looks_strange(tmp_path):
    with tarfile.open(tmp_path / "birds.tgz", "w:gz") as archive:
        archive.addfile(*member("/birds/one.txt", content=b"one"))
        archive.addfile(*member("birds/program.sh", mode=0o6777, uid=0, content=b"#!/bin/sh\n"))
    folder = archives.extract(tmp_path / "birds.tgz", "birds")
    assert (folder / "one.txt").read_text() == "one"
    assert stat.S_IMODE((folder / "program.sh").stat().st_mode) & 0o7022 == 0, "nobody else may write it or become root"
