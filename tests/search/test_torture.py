"""Three processes add, remove, update, rebuild and search on one gallery, are killed, and run out of disk space."""

import errno
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stml_tf.search import Gallery
from tests.search.tortured_gallery import embedding_of

pytestmark = pytest.mark.slow

SECONDS = 120
SIZE = 600_000
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 600 kB; where mounting is not allowed, one in which files may not grow beyond 20 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    yield folder, mounted
    if mounted:
        subprocess.run(["umount", "-l", folder], check=True)


def test_nothing_that_was_acknowledged_is_lost_and_nothing_that_was_removed_is_back(small_disk, tmp_path):
    (disk, mounted), photos, chance = small_disk, tmp_path / "photos", random.Random(0)
    photos.mkdir()
    for number in range(1, 41):
        (photos / f"{number}.jpg").write_text(str(number))
    gallery = disk / "gallery"
    images = [photos / f"{number}.jpg" for number in range(1, 41)]
    Gallery.from_embeddings(np.stack([embedding_of(n) for n in range(1, 41)]), images, gallery)
    foreign = {gallery / "notes.csv": "path,mine", gallery / "generation-mine" / "paths.json": "mine"}
    for file, text in foreign.items():
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    ledgers = [tmp_path / f"ledger{worker}" for worker in (1, 2, 3)]

    def start(worker):
        command = [sys.executable, "-m", "tests.search.tortured_gallery", gallery, photos, ledgers[worker - 1]]
        limit = "" if mounted else "ulimit -f 20; "
        return subprocess.Popen(
            ["bash", "-c", f'{limit}exec "$@"', "bash", *map(str, command), str(worker), str(chance.randrange(10**6))],
            cwd=Path(__file__).parents[2],
            stderr=subprocess.DEVNULL,
        )

    processes = {worker: start(worker) for worker in (1, 2, 3)}
    end, kills, ballast = time.monotonic() + SECONDS, 0, disk / "ballast"
    try:
        while time.monotonic() < end:
            time.sleep(chance.uniform(0.5, 4))
            worker = chance.choice((1, 2, 3))
            processes[worker].kill()
            processes[worker].wait()
            kills += 1
            processes[worker] = start(worker)
            if mounted and chance.random() < 0.3:
                ballast.unlink(missing_ok=True)
                free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
                try:
                    ballast.write_bytes(bytes(int(free * chance.choice((0.5, 0.9, 1)))))
                except OSError as error:
                    assert error.errno in FULL
            elif chance.random() < 0.5:
                ballast.unlink(missing_ok=True)
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
        ballast.unlink(missing_ok=True)

    lines = [line.split(maxsplit=3) for ledger in ledgers for line in ledger.read_text().splitlines()]
    told = {kind: [line for line in lines if line[0] == kind] for kind in ("wrong", "error", "full", "done", "begin")}
    assert told["wrong"] == []
    assert told["error"] == []
    assert {int(line[2]) for line in told["full"]} <= FULL
    numbers = {
        (kind, action): {int(line[2]) for line in told[kind] if line[1] == action}
        for kind in ("begin", "done")
        for action in ("add", "remove")
    }
    opened = Gallery.load(gallery)
    opened.check()
    held = [int(Path(path).stem) for path in opened.paths]
    assert len(held) == len(set(held))
    assert set(range(1, 41)) | (numbers["done", "add"] - numbers["begin", "remove"]) <= set(held)
    assert not numbers["done", "remove"] & set(held)
    np.testing.assert_array_equal(opened.embeddings, np.stack([embedding_of(number) for number in held]))
    assert {file: file.read_text() for file in foreign} == foreign
    opened.remove(opened.paths[0])
    names = {path.name for path in gallery.iterdir()} - {opened.manifest.generation, "gallery.lock", ".stml-tf-pieces"}
    assert names == {"gallery.json", "notes.csv", "generation-mine"}
    print(f"{kills} kills, {len(told['done'])} changes done, {len(told['full'])} times full")
    assert kills > 20
    assert len(told["done"]) > 20
