"""Local files in every layout, written by their own libraries, and what happens to damaged ones."""

import gzip
import io
import struct

import numpy as np
import pytest

from testbed import plugins
from testbed.data import arrays as module
from testbed.data.arrays import Npz
from testbed.data.base import beside, fingerprint
from testbed.data.folder import ImageFolder
from testbed.data.hub import HubDataset, Saved
from testbed.data.idx import Idx
from testbed.data.splits import Draw, materialise
from testbed.data.tables import Parquet
from testbed.errors import DataError, EnvironmentProblem, UsageError

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 256, (12, 6, 5, 3), dtype=np.uint8), np.arange(12) % 4


def write_idx(path, array, packed=True):
    data = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data) if packed else data)


def png(image):
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def table():
    from datasets import ClassLabel, Dataset, Features, Image

    features = Features({"image": Image(), "label": ClassLabel(names=["a", "b", "c", "d"])})
    cells = [{"bytes": png(image), "path": None} for image in X]
    return Dataset.from_dict({"image": cells, "label": Y.tolist()}, features=features)


@pytest.fixture
def idx_folder(tmp_path):
    for prefix, packed in (("train", True), ("t10k", False)):
        ending = ".gz" if packed else ""
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte{ending}", X[..., 0], packed)
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte{ending}", Y.astype(np.uint8), packed)
    return tmp_path


def test_idx_plain_and_gzipped(idx_folder):
    dataset = Idx(str(idx_folder), classes=4)

    assert dataset.sizes() == {"train": 12, "test": 12} and dataset.spec().shape == (6, 5, 1)
    for part in ("train", "test"):
        got = dataset.load(part)
        assert (got.x[..., 0] == X[..., 0]).all() and (got.y == Y).all() and got.spec == dataset.spec()
        some = dataset.load_rows(part, np.array([2, 3, 11]))
        assert (some.x == got.x[[2, 3, 11]]).all() and (some.ids == got.ids[[2, 3, 11]]).all()
        assert some.y.tolist() == Y[[2, 3, 11]].tolist()
    assert not set(dataset.load("train").ids) & set(dataset.load("test").ids)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[:60], "not a whole gzip file"),
        (lambda data: gzip.compress(b"<html>moved</html>"), "not an IDX file of bytes"),
        (lambda data: gzip.compress(gzip.decompress(data)[:-5]), "promises .12, 6, 5. = 360 bytes, the file holds 355"),
    ],
)
def test_a_damaged_idx_file_is_an_error(idx_folder, change, words):
    path = idx_folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(change(path.read_bytes()))

    with pytest.raises(DataError, match=words):
        Idx(str(idx_folder)).load("train")


def test_labels_outside_the_classes_are_an_error(idx_folder):
    with pytest.raises(DataError, match=r"labels run from 0 to 3, expected 0\.\.2"):
        Idx(str(idx_folder), classes=3).load("test")


def test_npz_as_one_part_and_in_the_layout_of_keras(tmp_path):
    np.savez(tmp_path / "one.npz", images=X, labels=Y)
    np.savez_compressed(tmp_path / "keras.npz", x_train=X, y_train=Y, x_test=X[:5], y_test=Y[:5])
    one, keras = Npz(str(tmp_path / "one.npz")), Npz(str(tmp_path / "keras.npz"), x="x_{part}", y="y_{part}")

    assert one.sizes() == {"all": 12} and one.spec().classes == 4
    assert keras.sizes() == {"test": 5, "train": 12} and (keras.load("test").x == X[:5]).all()
    with pytest.raises(UsageError, match="holds no array 'image'; did you mean 'images'"):
        Npz(str(tmp_path / "one.npz"), x="image").sizes()
    with pytest.raises(DataError, match="holds no array 'label'; did you mean 'labels'"):
        Npz(str(tmp_path / "one.npz"), y="label").spec()


@pytest.mark.parametrize("images", [X, np.asfortranarray(X)], ids=["C", "Fortran"])
def test_a_large_stored_array_is_a_memory_map_of_the_same_values(tmp_path, monkeypatch, images):
    monkeypatch.setattr(module, "_MAPPED", 0)
    np.savez(tmp_path / "stored.npz", other=Y[:3], images=images, labels=Y)
    np.savez_compressed(tmp_path / "packed.npz", images=images, labels=Y)
    before = (tmp_path / "stored.npz").read_bytes()

    for name, kind in (("stored", np.memmap), ("packed", np.ndarray)):
        whole = Npz(str(tmp_path / f"{name}.npz")).load("all")
        some = Npz(str(tmp_path / f"{name}.npz")).load_rows("all", np.array([1, 4, 9]))
        assert type(whole.x) is kind and (whole.x == X).all() and (whole.y == Y).all()
        assert (some.x == X[[1, 4, 9]]).all() and some.y.tolist() == Y[[1, 4, 9]].tolist()
        assert some.ids.tolist() == [1, 4, 9] and some.spec == whole.spec
    Npz(str(tmp_path / "stored.npz")).load("all").x[:] = 0
    assert (tmp_path / "stored.npz").read_bytes() == before


def test_npz_of_a_table_and_of_series(tmp_path):
    rows, waves = RNG.normal(size=(9, 3)), RNG.normal(size=(9, 7, 2))
    np.savez(tmp_path / "a.npz", x=rows, y=np.arange(9) % 2, w=waves)
    flat, series = (
        Npz(str(tmp_path / "a.npz"), x=name, y="y", kind=kind) for name, kind in (("x", "tabular"), ("w", "series"))
    )

    assert flat.spec().kind == "tabular" and flat.load("all").x.dtype == np.float32
    assert series.spec().model_shape == (2, 7) and len(series.spec().bounds) == 2
    np.testing.assert_allclose(flat.spec().bounds, np.stack([rows.min(0), rows.max(0)], 1), rtol=1e-6)
    with pytest.raises(DataError, match="a tabular set has 2 axes"):
        Npz(str(tmp_path / "a.npz"), x="w", y="y", kind="tabular").spec()
    with pytest.raises(DataError, match="expected images as uint8"):
        Npz(str(tmp_path / "a.npz"), x="x", y="y").spec()


def test_an_archive_of_objects_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.array([{}], dtype=object), labels=np.zeros(1, int))

    with pytest.raises(DataError, match="without running code"):
        Npz(str(tmp_path / "a.npz")).load("all")


def test_parquet_files_by_part_with_encoded_images(tmp_path):
    table().to_parquet(tmp_path / "train.parquet")
    for shard, rows in enumerate((range(3), range(3, 7))):
        table().select(rows).to_parquet(tmp_path / f"test-0000{shard}-of-00002.parquet")
    dataset = Parquet(str(tmp_path))

    assert dataset.sizes() == {"test": 7, "train": 12} and dataset.spec().shape == (6, 5, 3)
    assert (dataset.load("test").x == X[:7]).all() and (dataset.load("train").y == Y).all()
    some = materialise(dataset, Draw("test", 7, 0, 4), 0)
    assert (some.x == X[some.ids - 10**9]).all() and len(some) == 4
    with pytest.raises(UsageError, match="has no column 'img'; did you mean 'image'"):
        Parquet(str(tmp_path), image="img").load("test")
    with pytest.raises(UsageError, match="has no column 'lable'; did you mean 'label'"):
        Parquet(str(tmp_path), label="lable").load("test")


def test_parquet_of_numbers(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    flat = X[:, :4, :4, 0].reshape(12, -1)
    pq.write_table(
        pa.table({"px": flat.tolist(), "nested": X.tolist(), "y": Y, "bad": (flat / 255).tolist()}),
        tmp_path / "a.parquet",
    )
    file = str(tmp_path / "a.parquet")

    assert (Parquet(file, "px", "y").load("all").x[..., 0] == X[:, :4, :4, 0]).all()
    assert (Parquet(file, "nested", "y").load("all").x == X).all()
    assert Parquet(file, "px", "y", shape=(8, 2, 1)).spec().shape == (8, 2, 1)
    with pytest.raises(DataError, match="pixels must be whole numbers"):
        Parquet(file, "bad", "y").load("all")


def make_folder(root, sizes):
    for part, name, count in sizes:
        (root / part / name).mkdir(parents=True)
        for i in range(count):
            (root / part / name / f"{i}.png").write_bytes(png(X[i]))
    return str(root)


def test_image_folder_with_and_without_parts(tmp_path):
    parts = ImageFolder(
        make_folder(tmp_path / "a", [("train", "cat", 3), ("train", "dog", 2), ("test", "cat", 1), ("test", "dog", 1)])
    )
    flat = ImageFolder(make_folder(tmp_path / "b", [(".", "dog", 2), (".", "cat", 3)]))

    assert parts.sizes() == {"test": 2, "train": 5} and parts.spec().class_names == ("cat", "dog")
    assert flat.sizes() == {"all": 5} and flat.load("all").y.tolist() == [0, 0, 0, 1, 1]
    assert (flat.load("all").x == X[[0, 1, 2, 0, 1]]).all()
    assert ImageFolder(flat.path, channels=1, size=4).load("all").x.shape == (5, 4, 4, 1)
    assert fingerprint(flat) != fingerprint(parts)


def test_image_folders_that_cannot_be_used(tmp_path):
    uneven = make_folder(tmp_path / "a", [("train", "cat", 3), ("test", "dog", 1)])
    with pytest.raises(DataError, match="another part has"):
        ImageFolder(uneven).load("train")
    (tmp_path / "b" / "x").mkdir(parents=True)
    with pytest.raises(UsageError, match="holds no image files"):
        ImageFolder(str(tmp_path / "b")).sizes()
    (tmp_path / "b" / "x" / "1.png").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"1\.png: an image cell holds 6 bytes"):
        ImageFolder(str(tmp_path / "b")).load("all")
    (tmp_path / "b" / "x" / "1.png").write_bytes(png(X[0])[:-40])
    with pytest.raises(DataError, match=r"1\.png: an image cannot be decoded"):
        ImageFolder(str(tmp_path / "b")).load("all")
    (tmp_path / "b" / "x" / "1.png").write_bytes(png(X[0, ..., 0].astype(np.uint16) * 200))
    with pytest.raises(DataError, match=r"1\.png: an image has the mode I;16, more than 8 bits"):
        ImageFolder(str(tmp_path / "b")).load("all")
    (tmp_path / "b" / "x" / "1.png").write_bytes(png(X[0]))
    (tmp_path / "b" / "x" / "2.png").write_bytes(png(X[0, :4]))
    with pytest.raises(DataError, match="set `size` to resize all"):
        ImageFolder(str(tmp_path / "b")).load("all")


def test_save_to_disk_and_load_dataset_of_a_local_folder(tmp_path):
    from datasets import DatasetDict

    DatasetDict(train=table(), test=table().select(range(5))).save_to_disk(tmp_path / "saved")
    (tmp_path / "hub").mkdir()
    table().to_parquet(tmp_path / "hub" / "train.parquet")
    table().select(range(5)).to_parquet(tmp_path / "hub" / "test.parquet")
    saved, hub = Saved(str(tmp_path / "saved")), HubDataset(str(tmp_path / "hub"))

    for dataset in (saved, hub):
        assert dataset.sizes() == {"train": 12, "test": 5}
        assert (dataset.load("test").x == X[:5]).all() and (dataset.load("train").y == Y).all()
        assert dataset.spec().classes == 4
    assert saved.spec().class_names == ("a", "b", "c", "d")
    assert set(hub.identity()["fingerprint"]) == {"train", "test"} and len(saved.files()) == 7
    assert Saved(str(tmp_path / "saved"), split="test").sizes() == {"test": 5}
    with pytest.raises(UsageError, match="has no column 'img'"):
        Saved(str(tmp_path / "saved"), image="img").spec()
    with pytest.raises(DataError, match="has 4 classes, the grid says 7"):
        Saved(str(tmp_path / "saved"), classes=7).spec()
    with pytest.raises(UsageError, match="not written by save_to_disk"):
        Saved(str(tmp_path / "hub")).sizes()


def test_absent_files_say_where_they_were_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("TESTBED_DATA", str(tmp_path))
    with pytest.raises(EnvironmentProblem, match=r"no such file or folder: .* and "):
        Npz("gone.npz").sizes()
    with pytest.raises(EnvironmentProblem, match="has no file mnist/"):
        plugins.read("dataset", "mnist").build().load("test")
    monkeypatch.delenv("TESTBED_DATA")
    with pytest.raises(EnvironmentProblem, match="set TESTBED_DATA to a folder that holds cifar10/"):
        plugins.read("dataset", "cifar10").build().load("test")


def test_a_path_in_a_grid_is_beside_it_or_in_the_data_folder(monkeypatch, tmp_path):
    for folder, name in (("grids", "a"), ("data", "a"), ("data", "b")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).touch()
    monkeypatch.setenv("TESTBED_DATA", str(tmp_path / "data"))

    found = [beside(tmp_path / "grids", name) for name in ("a", "b", "c", "../data/a")]
    assert found == [
        tmp_path / "grids" / "a",
        tmp_path / "data" / "b",
        tmp_path / "grids" / "c",
        tmp_path / "data" / "a",
    ]
