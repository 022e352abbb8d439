"""Image files as they come: turned by their EXIF orientation, or claiming to be huge."""

import io
import struct
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from testbed.data.folder import ImageFolder
from testbed.data.hub import Saved
from testbed.data.tables import Parquet, decode
from testbed.errors import DataError


def turned(orientation):
    """A PNG of a white band on top, that says it is to be turned."""
    pixels = np.zeros((12, 8, 3), np.uint8)
    pixels[:3, :2] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "PNG", exif=exif)
    return held.getvalue(), pixels


#: What each orientation asks for, written with numpy: EXIF 2.32, tag 274.
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda x: np.rot90(x),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_an_image_is_read_upright(orientation):
    encoded, pixels = turned(orientation)
    np.testing.assert_array_equal(decode(encoded), UPRIGHT[orientation](pixels))
    np.testing.assert_array_equal(decode(Image.open(io.BytesIO(encoded))), UPRIGHT[orientation](pixels))


def test_every_reader_reads_one_image_alike(tmp_path):
    datasets = pytest.importorskip("datasets")
    encoded, pixels = turned(6)
    for name in ("ant", "bee"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "0.png").write_bytes(encoded)
    cells = [{"bytes": encoded, "path": None}] * 2
    pq.write_table(pa.table({"image": cells, "label": [0, 1]}), tmp_path / "a.parquet")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    datasets.Dataset.from_dict({"image": cells, "label": [0, 1]}, features).save_to_disk(str(tmp_path / "saved"))
    readers = (
        ImageFolder(str(tmp_path / "images")),
        Parquet(str(tmp_path / "a.parquet")),
        Saved(str(tmp_path / "saved")),
    )
    for reader in readers:
        np.testing.assert_array_equal(reader.load("all").x[0], UPRIGHT[6](pixels))


def claiming(width, height):
    """A PNG of a few bytes whose header claims a size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = b"IDAT" + zlib.compress(b"\0" * 100)
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, body, b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("side", [8193, 12_000, 100_000])
def test_a_small_file_that_claims_to_be_huge_is_refused(side, tmp_path):
    with pytest.raises(DataError, match=r"the 67,108,864 pixels that are read"):
        decode(claiming(side, side))
    (tmp_path / "ant").mkdir()
    (tmp_path / "ant" / "0.png").write_bytes(claiming(side, side))
    with pytest.raises(DataError, match=r"ant/0\.png: an image .*pixels"):
        ImageFolder(str(tmp_path)).spec()
