"""One of the processes that change a gallery until they are killed.

Run as `python -m tests.search.tortured_gallery GALLERY PHOTOS LEDGER WORKER SEED`. Every image's content is its number,
and so is its embedding. What is about to be done and what is done stands in the ledger, a line each.
"""

import random
import sys
import types
from pathlib import Path

import numpy as np

DIM = 8


def embedding_of(number):
    row = np.random.default_rng(number).standard_normal(DIM)
    return (row / np.linalg.norm(row)).astype(np.float32)


class NumberEmbedder:
    """Stands in for the network."""

    path, fingerprint = Path("/model"), "numbers"

    def __init__(self, *_):
        pass

    def embed_images(self, images, *, on_progress=None):
        rows, indices = [], []
        for index, image in enumerate(images):
            try:
                rows.append(embedding_of(int(image.read_text())))
            except OSError:
                continue
            indices.append(index)
        return types.SimpleNamespace(
            embeddings=np.array(rows, np.float32).reshape(-1, DIM), indices=np.array(indices, np.int64), unreadable=[]
        )


def stand_in():
    """Put it in the network's place, so that nothing loads TensorFlow."""
    sys.modules["stml_tf.export.embedder"] = types.SimpleNamespace(Embedder=NumberEmbedder)
    sys.modules["stml_tf.data.inspection"] = types.SimpleNamespace(Unreadable=None)
    from stml_tf.search.gallery_model import GalleryModel

    GalleryModel.load = lambda self: NumberEmbedder()


def main(gallery_folder, photos, ledger, worker, seed):
    stand_in()
    from stml_tf.errors import UserError
    from stml_tf.search import Gallery

    chance = random.Random(seed)
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    used = [int(line.split()[2]) for line in lines if line.startswith("begin add")]
    held = {int(line.split()[2]) for line in lines if line.startswith("done add")}
    held -= {int(line.split()[2]) for line in lines if line.startswith("begin remove")}
    number = max(used, default=1_000_000 * worker)  # each worker its own, however many it adds

    def note(line):
        with ledger.open("a") as stream:
            stream.write(f"{line}\n")

    while True:
        action = chance.choices(["add", "remove", "update", "rebuild", "search"], [6, 4, 1, 1, 6])[0]
        try:
            gallery = Gallery.load(gallery_folder)
            if action == "add":
                number += 1
                file = photos / f"{number}.jpg"
                note(f"begin add {number}")
                file.write_text(str(number))
                gallery.add(file)
                note(f"done add {number}")
                held.add(number)
            elif action == "remove" and held:
                gone = chance.choice(sorted(held))
                held.discard(gone)
                note(f"begin remove {gone}")
                # The file goes first: a rebuild that lists it in between holds it, and rightly so.
                (photos / f"{gone}.jpg").unlink()
                try:
                    gallery.remove(photos / f"{gone}.jpg")
                except UserError as error:
                    if "holds no image" not in str(error):  # Dropped by an update meanwhile.
                        raise
                note(f"done remove {gone}")
            elif action == "update":
                gallery.update()
            elif action == "rebuild":
                Gallery.build("/model", photos, gallery_folder, overwrite=True)
            else:
                asked = chance.choice(gallery.paths)
                ((match,),) = gallery.match_embeddings(embedding_of(int(Path(asked).stem))[None], k=1)
                if str(match.path) != asked:
                    note(f"wrong {asked} {match.path}")
        except OSError as error:
            note(f"full {action} {error.errno}")
        except Exception as error:
            note(f"error {action} {type(error).__name__} {error}")
            raise


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), *map(int, sys.argv[4:6]))
