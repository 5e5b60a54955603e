import pytest
from PIL import Image

from stml_tf.data.survey import survey_images
from stml_tf.errors import UserError


def save(path, size):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def test_counts_and_median_shorter_side(tmp_path):
    for number, size in enumerate([(40, 20), (30, 90), (50, 70)]):
        save(tmp_path / f"{number}.png", size)
    survey = survey_images(tmp_path)
    assert (survey.num_images, survey.shorter_side, survey.images_per_folder) == (3, 30, ())
    assert survey.folder == tmp_path


def test_one_folder_a_class_at_any_depth(tmp_path):
    for name in ("b/1.png", "a/1.png", "a/deeper/2.png"):
        save(tmp_path / name, (8, 8))
    assert survey_images(tmp_path).images_per_folder == (2, 1)
    save(tmp_path / "stray.png", (8, 8))
    assert survey_images(tmp_path).images_per_folder == ()


def test_what_cannot_be_opened_is_passed_over(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"none of the images in .* can be opened"):
        survey_images(tmp_path)
    save(tmp_path / "whole.png", (8, 12))
    assert survey_images(tmp_path).shorter_side == 8


def test_no_images(tmp_path):
    with pytest.raises(UserError, match="holds no images: give a folder of photographs"):
        survey_images(tmp_path)
