"""CompCars: photographs of 1,716 models of cars from the web, here to learn from without their labels.

Yang, Luo, Loy, Tang: A Large-Scale Car Dataset for Fine-Grained Categorization and Verification, CVPR 2015.
"""

from __future__ import annotations

from pathlib import Path

from stml_tf.data.catalog import Catalog
from stml_tf.data.sources.published import Publication, by_class
from stml_tf.data.sources.published_source import PublishedSource
from stml_tf.errors import UserError

COMPCARS = Publication(
    title="CompCars",
    folder="CompCars",
    parts=(("data/image", "image"),),
    archives={"data.zip": "data"},
    advice="Ask for it as http://mmlab.ie.cuhk.edu.hk/datasets/comp_cars/ says, extract data.zip with the password "
    "that comes with it, and put the folder data into the one that --data-dir names, or into CompCars there.",
    # Its page says 136,726 images. No listing comes with them that would tell whether a copy has them all, and a few
    # more or less change nothing for images without labels: so none are counted.
    counts={},
)


def load_compcars(data_dir: Path | None) -> Catalog:
    """List the photographs of whole cars, data/image/MAKE/MODEL/YEAR/*.jpg, as training images; a class is a model.

    Args:
        data_dir: The folder that holds `data/image`, or the folder above it, named CompCars.

    Raises:
        UserError: If the data set is missing, or holds no images.
    """
    (folder,) = COMPCARS.find(data_dir)
    cars = sorted(folder.glob("*/*/*/*.jpg"))
    if not cars:
        raise UserError(f"{folder} holds no images MAKE/MODEL/YEAR/*.jpg. {COMPCARS.advice}")
    models = ["/".join(path.relative_to(folder).parts[:2]) for path in cars]
    return Catalog(COMPCARS.title, by_class(cars, models), None)


open_compcars = PublishedSource(COMPCARS, load_compcars)
