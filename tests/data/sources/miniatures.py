"""Published data sets in their official layout, with a handful of images. Each returns how many it holds."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat


def write_image(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 36), (shade * 37 % 256, shade * 91 % 256, 128)).save(path)


def write_cub(data_dir: Path, *, classes: int = 4, images: int = 6) -> dict[str, int]:
    root = data_dir / "CUB_200_2011"
    names = [f"{number:03}.Bird_{number}" for number in range(1, classes + 1)]
    paths = [f"{name}/{name[4:]}_{number:04}.jpg" for name in names for number in range(images)]
    for shade, path in enumerate(paths):
        write_image(root / "images" / path, shade // images)
    write_lines(root / "classes.txt", (f"{number} {name}" for number, name in enumerate(names, start=1)))
    write_lines(root / "images.txt", (f"{number} {path}" for number, path in enumerate(paths, start=1)))
    write_lines(root / "image_class_labels.txt", (f"{row + 1} {row // images + 1}" for row in range(len(paths))))
    return halves(classes, images)


def write_cars(data_dir: Path, *, classes: int = 4, images: int = 6) -> dict[str, int]:
    count = classes * images
    fields = [
        (name, object) for name in ("relative_im_path", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "test")
    ]
    annotations = np.zeros((1, count), dtype=fields)
    for row in range(count):
        name = f"car_ims/{row + 1:06}.jpg"
        write_image(data_dir / name, row // images)
        annotations[0, row] = (name, 1, 1, 40, 36, np.uint8(row // images + 1), row % 2)
    class_names = np.array([[f"Zeta {classes - number}" for number in range(classes)]], dtype=object)
    savemat(data_dir / "cars_annos.mat", {"annotations": annotations, "class_names": class_names})
    return halves(classes, images)


def write_sop(data_dir: Path, *, classes: int = 4, images: int = 6) -> dict[str, int]:
    root = data_dir / "Stanford_Online_Products"
    rows = [
        f"{product * images + number + 1} {product + 1} 1 bicycle_final/{111000 + product}_{number}.JPG"
        for product in range(classes)
        for number in range(images)
    ]
    for shade, row in enumerate(rows):
        write_image(root / row.split()[-1], shade // images)
    header, half = "image_id class_id super_class_id path", classes // 2 * images
    write_lines(root / "Ebay_train.txt", [header, *rows[:half]])
    write_lines(root / "Ebay_test.txt", [header, *rows[half:]])
    return halves(classes, images)


def write_inshop(data_dir: Path, *, classes: int = 4, images: int = 6) -> dict[str, int]:
    """A third of the test images are queries."""
    root = data_dir / "In-shop Clothes Retrieval Benchmark"
    rows, counts = [], {"training images": 0, "test images": 0, "gallery images": 0}
    for item in range(classes):
        for number in range(images):
            path = f"img/WOMEN/Dresses/id_{item:08}/{number:02}_1_front.jpg"
            write_image(root / "Img" / path, item)
            part = "train" if item < classes // 2 else "gallery" if number % 3 else "query"
            rows.append(f"{path:<80} id_{item:08}  {part}")
            counts[{"train": "training images", "query": "test images", "gallery": "gallery images"}[part]] += 1
    listing = root / "Eval" / "list_eval_partition.txt"
    listing.parent.mkdir()
    write_lines(listing, [str(len(rows)), "image_name item_id evaluation_status", *rows])
    return counts


def write_nabirds(data_dir: Path, *, classes: int = 4, images: int = 6) -> dict[str, int]:
    """Image ids are no numbers, and class ids leave some numbers out."""
    root = data_dir / "nabirds"
    rows = [(number * 3 + 295, f"{number:04x}-{image:04x}") for number in range(classes) for image in range(images)]
    for class_id, image_id in rows:
        write_image(root / "images" / f"{class_id:04}" / f"{image_id.replace('-', '')}.jpg", class_id)
    write_lines(root / "images.txt", (f"{name} {class_id:04}/{name.replace('-', '')}.jpg" for class_id, name in rows))
    write_lines(root / "image_class_labels.txt", (f"{image_id} {class_id}" for class_id, image_id in reversed(rows)))
    return {"training images": classes * images, "training classes": classes}


def write_compcars(data_dir: Path, *, classes: int = 4, images: int = 6) -> dict[str, int]:
    """Two models of each make, each in two years; and a photograph of a part, which is no car."""
    for model in range(classes):
        for number in range(images):
            year = 2010 + number % 2
            write_image(data_dir / "data/image" / f"{model // 2 + 1}/{model + 7}/{year}/{number:06}.jpg", model)
    write_image(data_dir / "data/part/1/7/2010/1/000000.jpg", 0)
    return {"training images": classes * images, "training classes": classes}


def write_lines(path: Path, lines) -> None:
    path.write_text("\n".join(lines) + "\n")


def halves(classes: int, images: int) -> dict[str, int]:
    half = classes // 2
    return {
        "training images": half * images,
        "training classes": half,
        "test images": (classes - half) * images,
        "test classes": classes - half,
    }
