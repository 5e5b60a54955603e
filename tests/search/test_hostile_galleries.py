"""Galleries that were made to do harm, with the right checksums: nothing is run or written elsewhere, one message."""

import hashlib
import io
import json
import pickle
import shutil

import numpy as np
import pytest

from stml_tf import files
from stml_tf.errors import UserError
from stml_tf.search import Gallery
from stml_tf.search.store import PIECES
from tests.hostile import harmful_npy, harmful_pickle

COUNT, DIM = 20, 4
CASES = {}


def case(change):
    """Register a gallery: a function of its folder and of the folder that code in it would make."""
    CASES[change.__name__] = change
    return change


def rewrite(folder, **changes):
    content = files.read_json(folder / "gallery.json")
    files.write_json(folder / "gallery.json", {**content, **changes})


def replace(folder, name, content):
    """Put another file in the place of one, as if it had been written so."""
    (file,) = folder.glob(f"generation-*/{name}")
    file.write_bytes(content)
    listed = files.read_json(folder / "gallery.json")["files"]
    listed[name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    rewrite(folder, files=listed)


def generation_of(folder):
    return next(folder.glob("generation-*"))


def npy(array, **options):
    content = io.BytesIO()
    np.save(content, array, **options)
    return content.getvalue()


def faiss_index(index):
    import faiss

    return faiss.serialize_index(index).tobytes()


def hnsw(count=COUNT, dim=DIM):
    import faiss

    index = faiss.IndexHNSWFlat(dim, 32)
    index.add(np.random.default_rng(0).standard_normal((count, dim)).astype(np.float32))
    return index


@case
def manifest_that_is_a_pickle(folder, mark):
    (folder / "gallery.json").write_bytes(harmful_pickle(mark))


@case
def manifest_that_is_deep(folder, mark):
    (folder / "gallery.json").write_text('{"a":' * 100_000)


@case
def generation_above_the_folder(folder, mark):
    shutil.copytree(generation_of(folder), folder.parent / "generation-000001-00000000")
    rewrite(folder, generation="../generation-000001-00000000")


@case
def generation_with_an_absolute_path(folder, mark):
    shutil.copytree(generation_of(folder), folder.parent / "elsewhere")
    rewrite(folder, generation=str(folder.parent / "elsewhere"))


@case
def generation_that_is_the_folder_itself(folder, mark):
    rewrite(folder, generation=".")


@case
def generation_with_a_line_end(folder, mark):
    rewrite(folder, generation=f"{generation_of(folder).name}\n")


@case
def file_above_the_folder(folder, mark):
    listed = files.read_json(folder / "gallery.json")["files"]
    rewrite(folder, files={**listed, "../../mine.txt": listed["paths.json"]})


@case
def file_in_place_of_another(folder, mark):
    listed = files.read_json(folder / "gallery.json")["files"]
    rewrite(folder, files={f"/{name}": each for name, each in listed.items()})


@case
def no_files(folder, mark):
    rewrite(folder, files={})


@case
def exact_with_an_index(folder, mark):
    rewrite(folder, kind="exact")


@case
def kind_that_is_none(folder, mark):
    rewrite(folder, kind="os.system")


@case
def without_an_approximation(folder, mark):
    rewrite(folder, approximation=None)


@case
def negative_effort(folder, mark):
    rewrite(folder, approximation={"effort": -1, "recall_at_10": 1.0})


@case
def more_images_than_there_are(folder, mark):
    rewrite(folder, count=COUNT + 1)


@case
def fewer_images_than_there_are(folder, mark):
    rewrite(folder, count=COUNT - 1)


@case
def no_images(folder, mark):
    rewrite(folder, count=0)


@case
def numbers_without_end(folder, mark):
    rewrite(folder, count=1 << 80, dim=1 << 80)


@case
def negative_dimension(folder, mark):
    rewrite(folder, dim=-DIM)


@case
def embeddings_that_are_a_pickle(folder, mark):
    replace(folder, "embeddings.npy", harmful_npy(mark, count=COUNT))


@case
def embeddings_whose_header_is_a_program(folder, mark):
    header = f"{{'descr': __import__('os').mkdir({str(mark)!r}), 'fortran_order': False, 'shape': (20, 4)}}"
    header = header.ljust(1023).encode() + b"\n"
    replace(folder, "embeddings.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(320))


@case
def embeddings_of_another_type(folder, mark):
    replace(folder, "embeddings.npy", npy(np.zeros((COUNT, DIM))))


@case
def embeddings_that_are_cut_short(folder, mark):
    replace(folder, "embeddings.npy", npy(np.zeros((COUNT, DIM), np.float32))[:-16])


@case
def paths_that_are_a_pickle(folder, mark):
    replace(folder, "paths.json", harmful_pickle(mark))


@case
def paths_that_are_deep(folder, mark):
    replace(folder, "paths.json", b"[" * 100_000)


@case
def paths_that_are_numbers(folder, mark):
    replace(folder, "paths.json", json.dumps({"paths": list(range(COUNT)), "removed": []}).encode())


@case
def paths_that_are_one_text(folder, mark):
    replace(folder, "paths.json", json.dumps({"paths": "a" * COUNT, "removed": []}).encode())


@case
def paths_with_a_zero(folder, mark):
    replace(folder, "paths.json", json.dumps({"paths": ["a\0"] * COUNT, "removed": []}).encode())


@case
def paths_that_no_system_can_have(folder, mark):
    replace(folder, "paths.json", json.dumps({"paths": ["\ud800"] * COUNT, "removed": []}).encode())


@case
def removed_that_are_none(folder, mark):
    replace(folder, "paths.json", json.dumps({"paths": ["a"] * COUNT, "removed": None}).encode())


@case
def facts_that_are_a_pickle(folder, mark):
    replace(folder, "facts.npy", harmful_pickle(mark))


@case
def equal_to_what_is_not_there(folder, mark):
    replace(folder, "equal.npy", np.full(COUNT, 1 << 40, "<i8").tobytes())


@case
def equal_to_what_is_before_the_first(folder, mark):
    replace(folder, "equal.npy", np.full(COUNT, -1, "<i8").tobytes())


@case
def index_that_is_a_pickle(folder, mark):
    replace(folder, "index.faiss", harmful_pickle(mark))


@case
def index_of_another_kind(folder, mark):
    import faiss

    replace(folder, "index.faiss", faiss_index(faiss.IndexFlatL2(DIM)))


@case
def index_of_another_dimension(folder, mark):
    replace(folder, "index.faiss", faiss_index(hnsw(dim=2 * DIM)))


@case
def index_of_more_rows(folder, mark):
    replace(folder, "index.faiss", faiss_index(hnsw(count=2 * COUNT)))


@case
def index_that_leads_out_of_memory(folder, mark):
    import faiss

    index = hnsw()
    links = faiss.vector_to_array(index.hnsw.neighbors)
    links[links >= 0] = 1 << 30
    faiss.copy_array_to_vector(links, index.hnsw.neighbors)
    replace(folder, "index.faiss", faiss_index(index))


@case
def index_that_is_cut_short(folder, mark):
    replace(folder, "index.faiss", faiss_index(hnsw())[:-20])


@case
def model_that_is_a_number(folder, mark):
    rewrite(folder, model=7)


@case
def field_that_is_unknown(folder, mark):
    rewrite(folder, __class__="os.system")


@pytest.fixture
def gallery(tmp_path):
    rows = np.random.default_rng(0).standard_normal((COUNT, DIM)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    folder = tmp_path / "deep" / "gallery"
    Gallery.from_embeddings(rows, [f"/images/{n}.jpg" for n in range(COUNT)], folder, kind="hnsw")
    return folder


def use(folder):
    gallery = Gallery.load(folder)
    gallery.check()
    gallery.match_embeddings(np.eye(2, DIM, dtype=np.float32), k=3)
    gallery.remove(gallery.paths[0])


def outside(folder):
    return {
        path: path.is_file() and path.read_bytes() for path in folder.parent.rglob("*") if folder not in path.parents
    }


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_run_or_written_elsewhere_and_one_message_says_so(gallery, tmp_path, name):
    (gallery.parent / "mine.txt").write_text("mine")
    mark = tmp_path / "was_run"
    CASES[name](gallery, mark)
    before = outside(gallery)
    with pytest.raises(UserError, match=r"the gallery is damaged: .*Make it anew") as raised:
        use(gallery)
    assert "\n" not in str(raised.value).replace(str(gallery), "")
    assert not mark.exists()
    assert outside(gallery) == before


def test_what_would_be_unpickled_would_have_been_run(tmp_path):
    pickle.loads(harmful_pickle(tmp_path / "was_run"))
    assert (tmp_path / "was_run").exists()


def link_manifest(gallery, mine):
    shutil.move(gallery / "gallery.json", mine)
    (gallery / "gallery.json").symlink_to(mine)


def link_lock(gallery, mine):
    (gallery / "gallery.lock").unlink()
    (gallery / "gallery.lock").symlink_to(mine)


def link_unreadable(gallery, mine):
    mine.write_text("# Images that stml-tf left out: path, reason\n")
    (gallery / "unreadable.txt").symlink_to(mine)


def link_to_nowhere(gallery, mine):
    (gallery / "unreadable.txt").symlink_to(mine.with_name("new.txt"))


def link_pieces(gallery, mine):
    mine.unlink()
    mine.mkdir()
    (gallery / PIECES).symlink_to(mine)


def link_generation(gallery, mine):
    mine.unlink()
    shutil.move(generation_of(gallery), mine)
    (gallery / files.read_json(gallery / "gallery.json")["generation"]).symlink_to(mine)


def link_old_generation(gallery, mine):
    mine.unlink()
    shutil.copytree(generation_of(gallery), mine)
    (gallery / "generation-000000-00000000").symlink_to(mine)


@pytest.mark.parametrize(
    "link",
    [link_manifest, link_lock, link_unreadable, link_to_nowhere, link_pieces, link_generation, link_old_generation],
)
def test_a_link_in_a_gallery_leads_no_change_out_of_it(gallery, toy_model, photographs, link):
    mine = gallery.parent / "mine.txt"
    mine.write_text("mine")
    link(gallery, mine)
    before = outside(gallery)
    (photographs / "bad.jpg").write_text("no image")
    for change in (
        lambda: Gallery.load(gallery).remove("/images/3.jpg"),
        lambda: Gallery.build(toy_model, photographs, gallery, overwrite=True),
    ):
        try:
            change()
        except (UserError, OSError) as error:
            assert link in (link_pieces, link_lock), error
        assert outside(gallery) == before


def test_a_manifest_of_the_first_format_deletes_nothing_elsewhere(gallery):
    mine = [gallery.parent / "mine.txt", gallery / "photo.jpg"]
    for file in mine:
        file.write_text("mine")
    for names in (("../mine.txt", str(mine[0]), ".."), ("photo.jpg", ".", "embeddings-1.npy/../photo.jpg")):
        named = [{"name": name} for name in names]
        old = {"format": 1, **dict(zip(("embeddings", "paths", "index"), named, strict=True))}
        (gallery / "gallery.json").write_text(json.dumps(old))
        Gallery.from_embeddings(np.eye(2, dtype=np.float32), ["/a", "/b"], gallery, overwrite=True)
        assert [file.read_text() for file in mine] == ["mine", "mine"]
