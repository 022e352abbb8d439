"""The image folder: what the runner writes is what the page reads."""

import io

import numpy as np
import pytest
from PIL import Image

from testbed.errors import DataError
from testbed.report.images import png, read_strip, write_strip
from testbed.report.load import Run
from testbed.report.payload import MOST_A_CONDITION, data_uri, images

ROW = {
    "model": "m",
    "condition": "fog s3",
    "id": np.int64(7),
    "label": "a",
    "prediction": "b",
    "confidence": np.float32(0.5),
}


def test_pixels_survive(tmp_path) -> None:
    clean = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    perturbed = (np.moveaxis(clean, -1, 0) / 255).astype(np.float32)
    write_strip(tmp_path, [ROW | {"clean": clean, "perturbed": perturbed}])
    (row,) = read_strip(tmp_path)
    assert row["clean"] == row["perturbed"]  # float [c h w] in [0, 1] is the same picture, and is kept once
    assert (np.array(Image.open(tmp_path / row["clean"])) == clean).all()
    assert (row["id"], row["confidence"]) == (7, 0.5)


def test_grey_images_have_one_channel() -> None:
    assert Image.open(io.BytesIO(png(np.zeros((2, 3, 1), np.uint8)))).mode == "L"


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 3), np.float32)]
)
def test_other_shapes_are_refused(image) -> None:
    with pytest.raises(DataError, match="1 or 3 channels"):
        png(image)


def test_a_row_without_a_key_is_refused(tmp_path) -> None:
    with pytest.raises(DataError, match="lacks clean, perturbed"):
        write_strip(tmp_path, [ROW])


def test_no_folder_is_no_strip(tmp_path) -> None:
    assert read_strip(tmp_path / "images") == []


def test_only_files_of_the_folder_are_read(tmp_path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "images").mkdir()
    assert data_uri(tmp_path / "images", "../secret.png") == "" == data_uri(tmp_path / "images", "absent.png")


def test_a_page_takes_a_few_of_each_condition_and_counts_the_rest(tmp_path) -> None:
    image = np.zeros((2, 2, 1), np.uint8)
    write_strip(tmp_path / "images", [ROW | {"clean": image, "perturbed": image}] * (MOST_A_CONDITION + 3))
    found = images(Run(tmp_path))
    assert (len(found["rows"]), found["left_out"], len(found["files"])) == (MOST_A_CONDITION, 3, 1)
