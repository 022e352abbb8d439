"""Data sets of the user's own from a grid: parameters that can be set, files beside it, missing columns."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from PIL import Image

from testbed import plugins
from testbed.errors import UsageError
from testbed.grid import model as schema
from testbed.grid.planner import plan

FIXED = {
    "dataset": (schema.Data, schema.Ood),
    "model": (schema.Model,),
    "calibrator": (schema.Calibrator,),
    "detector": (schema.Detector,),
}
#: Keys of the grid that are handed on to a plug-in which has them as parameters.
HANDED_ON = {"model": {"output", "scores"}}


@pytest.mark.parametrize("kind", FIXED)
def test_no_parameter_hides_behind_a_key_of_the_grid(kind):
    for name in plugins.names(kind):
        taken = {p.name for p in plugins.read(kind, name).parameters}
        for entry in FIXED[kind]:
            assert not taken & set(entry.model_fields) - HANDED_ON.get(kind, set()), (
                f"{kind} {name}: a grid can never set these"
            )


def picture(i):
    return Image.fromarray(np.full((8, 8), i, dtype=np.uint8))


def png(i):
    out = io.BytesIO()
    picture(i).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def grid(tmp_path):
    """A folder with a parquet file and a set of `save_to_disk`; `grid(data)` plans a grid that stands in it."""
    labels = [i % 10 for i in range(60)]
    pq.write_table(pa.table({"img": [png(i) for i in range(60)], "target": labels}), tmp_path / "own.parquet")
    Dataset.from_dict({"image": [picture(i) for i in range(60)], "label": labels}).save_to_disk(tmp_path / "own")

    def made(data):
        text = f"name: own\ndata: [{data}]\nmodels: [small-cnn]\nmetrics: [accuracy]\n"
        (tmp_path / "grid.yaml").write_text(text)
        return plan(tmp_path / "grid.yaml")

    return made


@pytest.mark.parametrize(
    "data",
    [
        "{use: parquet, path: own.parquet, image: img, label: target, name: mine, calibration: 10, test: 20}",
        "{use: saved, path: own, name: mine, calibration: 10, test: 20}",
    ],
)
def test_files_beside_the_grid_are_found_from_anywhere(grid, data):
    planned = grid(data)

    assert {cell.row["dataset"] for cell in planned.cells} == {"mine"}


def test_a_missing_column_is_a_problem_with_the_nearest(grid):
    with pytest.raises(
        UsageError, match=r"grid\.yaml:2:8  data\[0\]: .*own\.parquet has no column 'image'; did you mean 'img'"
    ):
        grid("{use: parquet, path: own.parquet}")
    with pytest.raises(UsageError, match=r"part 'all', has no column 'lable'; did you mean 'label'"):
        grid("{use: saved, path: own, label: lable}")
