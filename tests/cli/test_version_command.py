"""`testbed version` and the provenance in plan.json are one thing."""

import importlib.metadata
import json
import platform

from testbed import provenance


def test_json_is_the_provenance(testbed_command) -> None:
    found = json.loads(testbed_command("version", "--json").out)
    assert found == json.loads(json.dumps(provenance.provenance()))
    assert found["python"] == platform.python_version()
    assert found["packages"]["numpy"] == importlib.metadata.version("numpy")
    assert found["packages"]["scikit-learn"] == importlib.metadata.version("scikit-learn")
    assert found["cpu"]["cores"] >= 1 and found["cpu"]["model"]


def test_text_names_the_version(testbed_command) -> None:
    from testbed import __version__

    assert testbed_command("version").out.startswith(f"testbed {__version__} (code ")


def test_an_edited_file_changes_the_code_digest(tmp_path, monkeypatch) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    monkeypatch.setattr(provenance, "_folder", lambda package: tmp_path if package == "testbed" else None)
    before = provenance.code_digest()
    assert provenance.code_digest() == before
    (tmp_path / "a.py").write_text("x = 2\n")
    assert provenance.code_digest() != before
