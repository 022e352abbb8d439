"""YAML to values with positions: YAML 1.2 scalars, duplicate keys, syntax errors, overrides."""

import pytest

from testbed.errors import UsageError
from testbed.grid.reader import from_mapping, override, read_file, read_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-1.5E+2", -150.0),
        ("8/255", "8/255"),
        ("0x1F", 31),
        ("007", 7),
        ("1_000", 1000),
        ("no", "no"),
        ("12:30", "12:30"),
        ("2020-01-01", "2020-01-01"),
        ("true", True),
        ("~", None),
        ("'8'", "8"),
    ],
)
def test_scalars_are_yaml_1_2(text, value):
    read = read_text(f"x: {text}").value["x"]
    assert read == value and type(read) is type(value)


def test_every_key_and_item_has_its_place():
    document = read_text("a: 1\nb:\n  - c: 2\n    d: [3, 4]\n")
    assert document.positions[("b", 0, "d")] == (4, 5)
    assert document.positions[("b", 0, "d", 1)] == (4, 12)


def test_all_duplicate_keys_are_refused_with_both_lines():
    with pytest.raises(UsageError) as error:
        read_text("a: 1\nb: {c: 1, c: 2}\na: 3\n", "grid.yaml")
    assert str(error.value).splitlines() == [
        "grid.yaml:2:11  b.c: key given twice (first on line 2)",
        "grid.yaml:3:1  a: key given twice (first on line 1)",
    ]


@pytest.mark.parametrize("text", ["a: [1", "a: b: c", "\ta: 1", "a: 1\n b: 2"])
def test_a_syntax_error_has_a_place(text):
    with pytest.raises(UsageError, match=r"^grid\.yaml:\d+:\d+  not YAML: "):
        read_text(text, "grid.yaml")


def test_an_empty_grid_and_an_absent_file_are_said_plainly(tmp_path):
    nothing = tmp_path / "nothing.yaml"
    nothing.write_text("# nothing\n")
    with pytest.raises(UsageError, match=r"nothing\.yaml:1:1  the grid is empty"):
        read_file(nothing)
    with pytest.raises(UsageError, match="cannot read the grid"):
        read_file(tmp_path / "absent.yaml")


def test_overrides_reach_into_lists_and_make_what_is_missing():
    document = from_mapping({"models": [{"use": "a"}], "seed": 0})
    override(document, ["models.0.train.epochs=2", "seed=[1, 2]", "models.1={use: b}", "note=null"])
    assert document.value == {
        "models": [{"use": "a", "train": {"epochs": 2}}, {"use": "b"}],
        "seed": [1, 2],
        "note": None,
    }


def test_an_override_that_leads_nowhere_is_an_error_that_names_it():
    document = from_mapping({"models": [{"use": "a"}]})
    with pytest.raises(UsageError) as error:
        override(document, ["models.5.use=b", "seed"])
    assert "-o models.5.use=b  models[5].use: no such place" in str(error.value)
    assert "-o seed  expected key=value" in str(error.value)
