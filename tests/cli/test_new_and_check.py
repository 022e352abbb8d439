"""`testbed new` writes a plug-in that keeps its contract; `testbed check` finds each way to break one."""

import subprocess
import sys

import pytest

KINDS = ("attack", "shift", "calibrator", "detector")


@pytest.mark.parametrize("kind", KINDS)
def test_the_written_test_passes(kind, testbed_command, tmp_path) -> None:
    ended = testbed_command("new", kind, "My-Thing", "--dir", tmp_path)
    assert ended.code == 0, ended.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["my_thing.py", "test_my_thing.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_thing.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_check_tells_the_kind_by_itself(kind, testbed_command, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    ref = testbed_command("new", kind, "thing").out.split("use: ")[1].split()[0]
    ended = testbed_command("check", ref)
    assert ended.code == 0 and ended.out.startswith(f"{kind} {ref}\n"), ended.out


def test_new_overwrites_nothing(testbed_command, tmp_path) -> None:
    (tmp_path / "test_thing.py").write_text("mine")
    ended = testbed_command("new", "attack", "thing", "--dir", tmp_path)
    assert ended.code == 2 and "test_thing.py exists" in ended.err
    assert [p.name for p in tmp_path.iterdir()] == ["test_thing.py"]


@pytest.mark.parametrize("name", ["2fast", "class", "a/b", "_x", ""])
def test_new_wants_a_name(name, testbed_command, tmp_path) -> None:
    assert testbed_command("new", "attack", name, "--dir", tmp_path).code == 2
    assert not list(tmp_path.iterdir())


def test_new_knows_its_kinds(testbed_command) -> None:
    ended = testbed_command("new", "atack", "x")
    assert ended.code == 2 and "did you mean 'attack'" in ended.err


def test_check_fails_with_what_was_expected_and_what_came(testbed_command, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.py").write_text(
        "def far(model, x, y, *, eps: float, rng):\n    return (x + 3 * eps).clamp(0, 1)\n"
    )
    ended = testbed_command("check", "./bad.py:far")
    assert ended.code == 1
    assert "FAIL" in ended.out and "linf" in ended.out


def test_check_takes_parameters(testbed_command, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = "def add(model, x, y, *, eps: float, amount: float, rng):\n    return (x + min(amount, eps)).clamp(0, 1)\n"
    (tmp_path / "add.py").write_text(source)
    missing = testbed_command("check", "./add.py:add")
    assert missing.code == 2 and "amount" in missing.err
    assert testbed_command("check", "./add.py:add", "-p", "amount=8/255").code == 0
    unknown = testbed_command("check", "./add.py:add", "-p", "amount=1", "-p", "amuont=1")
    assert unknown.code == 2 and "amuont" in unknown.err
    assert testbed_command("check", "./add.py:add", "-p", "amount").code == 2


def test_unknown_references_name_the_nearest(testbed_command) -> None:
    ended = testbed_command("check", "temprature")
    assert ended.code == 2 and "'temperature'" in ended.err
