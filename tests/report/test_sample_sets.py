"""samples.parquet by set: the values of a plain reading, and no row group read twice."""

from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest

from testbed.report.load import read_run
from testbed.report.payload import payload
from testbed.report.samples import Key, SampleSet, sample_sets

EVERYTHING = ("right", "confidence", "score")


def in_parts(folder, target):
    """The same run with a file a set, as the runner writes it."""
    target.mkdir()
    for name in ("results.parquet", "jobs.parquet", "plan.json"):
        (target / name).write_bytes((folder / name).read_bytes())
    table = pq.read_table(folder / "samples.parquet")
    keys = [tuple(row.values()) for row in table.select(Key._fields).to_pylist()]
    (target / "samples.parquet").mkdir()
    for number, key in enumerate(dict.fromkeys(keys)):
        rows = [i for i, one in enumerate(keys) if one == key]
        pq.write_table(table.take(rows), target / "samples.parquet" / f"part-{number:05d}.parquet")
    return target


@pytest.fixture(scope="module")
def whole(tmp_path_factory, write_run):
    return write_run(tmp_path_factory.mktemp("run"), models=("standard", "robust"), n=60, images=False)


@pytest.fixture(scope="module")
def parts(whole, tmp_path_factory):
    return in_parts(whole, tmp_path_factory.mktemp("parts") / "run")


def plainly(folder):
    """Every set of samples.parquet from its rows as Python objects."""
    found = {}
    for row in pq.read_table(folder / "samples.parquet").to_pylist():
        found.setdefault(Key(*(row[name] for name in Key._fields)), []).append(row)
    return found


@pytest.mark.parametrize("rows_a_group", [None, 17])
def test_the_values_are_those_of_a_plain_reading(whole, parts, tmp_path, rows_a_group):
    folder = parts
    if rows_a_group:  # one file, sets cut by the ends of row groups
        folder = tmp_path
        pq.write_table(
            pq.read_table(whole / "samples.parquet"), folder / "samples.parquet", row_group_size=rows_a_group
        )
    expected = plainly(whole)
    found = sample_sets(folder, dict.fromkeys(expected, EVERYTHING), "condition")

    assert found.keys() == expected.keys()
    for key, rows in expected.items():
        one = found[key]
        assert one.ids.tolist() == [row["id"] for row in rows]
        for name in ("none", "temperature", "isotonic"):
            decided = [dict(row["decision"])[name] == row["label"] for row in rows]
            assert one.right[name].tolist() == decided
            assert one.confidence[name].tolist() == [dict(row["confidence"])[name] for row in rows]
            assert one.confidence[name].dtype == np.float32
        for name in ("msp", "energy"):
            assert one.score[name].tolist() == [dict(row["score"])[name] for row in rows]


def test_only_what_is_wanted_is_read_and_what_is_absent_is_left_out(parts):
    clean = Key("mnist5k", "robust", 0, 0, "clean")
    found = sample_sets(parts, {clean: ("score",), clean._replace(model="none"): ("score",)}, "condition")

    assert list(found) == [clean]
    assert found[clean].score.keys() == {"msp", "energy"} and not found[clean].right and not found[clean].confidence
    assert sample_sets(parts / "nowhere", {clean: EVERYTHING}, "condition") == {}


def test_an_example_without_a_value_is_masked(whole, tmp_path):
    table = pq.read_table(whole / "samples.parquet")
    rows = [r for r in table.to_pylist() if r["condition"] == "clean" and r["dataset"] == "mnist5k"][:4]
    rows[1]["score"], rows[2]["decision"], rows[3]["confidence"] = [("msp", 1.0)], None, [("none", None)]
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), tmp_path / "samples.parquet")
    (one,) = sample_sets(tmp_path, {Key("mnist5k", "standard", 0, 0, "clean"): EVERYTHING}, "condition").values()

    assert isinstance(one, SampleSet)
    assert np.ma.getmaskarray(one.score["energy"]).tolist() == [False, True, False, False]
    assert np.ma.getmaskarray(one.right["none"]).tolist() == [False, False, True, False]
    assert np.ma.getmaskarray(one.confidence["none"]).tolist() == [False, False, False, True]


def test_the_page_reads_no_part_of_the_samples_more_than_twice(parts, monkeypatch):
    """Once for the selection and once for the score charts, whatever the number of sets, detectors and models."""
    read = Counter()
    plain = pq.ParquetFile.read_row_group

    def counted(file, number, *arguments, **options):
        read[file.metadata.row_group(number).column(4).statistics.min, id(file)] += 1
        return plain(file, number, *arguments, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    page = payload(read_run(parts))

    assert page["selection"] and page["scores"]["charts"]
    assert 0 < sum(read.values()) <= 2 * len(list((parts / "samples.parquet").iterdir()))
