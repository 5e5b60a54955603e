"""Views of 224 px from JPEG files of 500 px, two of each, beside torchvision's in a DataLoader of two workers."""

import time
from functools import partial

import numpy as np
import pytest

from stml_tf.data.cache import cache_in_memory, cache_on_disk, sufficient_side
from stml_tf.data.catalog import ImageSet
from stml_tf.data.loader import training_batches
from stml_tf.data.transforms import random_view
from tests.benchmarks.photographs import save_photographs

pytestmark = pytest.mark.benchmark

COUNT, BATCH, SIZE, VIEWS = 160, 32, 224, 2
PASSES = 8  # in an epoch, so that it is views that are timed and not how an epoch begins
SCALE = (0.2, 1.0)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return save_photographs(tmp_path_factory.mktemp("views") / "files", COUNT)


def ours(images, threads=None):
    random = np.random.default_rng(0)
    order = np.concatenate([random.permutation(COUNT) for _ in range(PASSES)]).reshape(-1, BATCH)
    batches = training_batches(
        images,
        lambda: (0, order),
        steps_per_epoch=len(order),
        batch_size=BATCH,
        num_views=VIEWS,
        view=partial(random_view, size=SIZE, crop_scale=SCALE, flip=True),
        preprocess=lambda views: views / 127.5 - 1.0,
        seed=0,
        threads=threads,
    )
    return lambda: sum(len(ids) for _, ids in batches)


class TwoViews:
    def __init__(self, paths, transform):
        self.paths, self.transform = paths, transform

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        import torch
        from PIL import Image

        with Image.open(self.paths[index]) as image:
            image = image.convert("RGB")
        return torch.stack([self.transform(image) for _ in range(VIEWS)]), index


def theirs(paths, workers=2):
    import torch
    from torchvision import transforms

    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE, SCALE, antialias=True),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    loader = torch.utils.data.DataLoader(
        TwoViews(paths * PASSES, transform), BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    return lambda: sum(len(ids) for _, ids in loader)


def test_views(benchmarks, files, tmp_path):
    images, side = ImageSet(files), sufficient_side(SIZE, SCALE[0])
    kinds = {
        "no cache": (images, "0.77"),
        "`cache: memory`": (cache_in_memory(images, shorter_side=side)[0], "0.4"),
        "`cache: disk`": (cache_on_disk(images, shorter_side=side, root=tmp_path)[0], "0.4"),
    }
    reference = theirs(files)
    for name, (source, reach) in kinds.items():
        benchmarks.compare(
            f"views of {SIZE} px, {name}",
            ours(source),
            "torchvision, `DataLoader`, 2 workers",
            reference,
            reach=reach,
            items=PASSES * COUNT * VIEWS,
            unit="views/s",
        )
    for name, (source, _) in kinds.items():
        views = ours(source, threads=1)
        begun = time.process_time()
        views()
        rate = PASSES * COUNT * VIEWS / (time.process_time() - begun)
        benchmarks.tell(f"views of {SIZE} px a second of one core, {name}", f"{rate:,.0f}")
    alone = theirs(files, workers=0)
    begun = time.process_time()
    alone()
    rate = PASSES * COUNT * VIEWS / (time.process_time() - begun)
    benchmarks.tell(f"views of {SIZE} px a second of one core, torchvision", f"{rate:,.0f}")
