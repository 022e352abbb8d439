"""`testbed data get` against a server on loopback, and `testbed data audit` on a set with planted copies."""

import functools
import http.server
import threading

import numpy as np
import pytest

from testbed.data import fetch
from testbed.data.fetch import Remote


@pytest.fixture
def server(tmp_path):
    """(base URL, folder that is served)."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.func.log_message = lambda *arguments: None  # type: ignore[attr-defined]
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}/", folder
    running.shutdown()


@pytest.fixture
def catalog(monkeypatch, server):
    """A catalog of one set of one file, which no mirror of its own has."""
    content = bytes(range(256)) * 40
    (server[1] / "file.bin").write_bytes(content)
    remote = Remote("tiny/file.bin", (), len(content), __import__("hashlib").sha256(content).hexdigest())
    monkeypatch.setattr(fetch, "catalog", lambda: {"tiny": (remote,)})
    return content


def test_get_from_a_mirror(testbed_command, catalog, server, tmp_path) -> None:
    ended = testbed_command("data", "get", "tiny", "--to", tmp_path / "data", "--mirror", server[0])
    assert ended.code == 0 and "SHA-256 as expected" in ended.out
    assert (tmp_path / "data" / "tiny" / "file.bin").read_bytes() == catalog


def test_get_of_another_file_than_expected_leaves_nothing(testbed_command, catalog, server, tmp_path) -> None:
    (server[1] / "file.bin").write_bytes(catalog[::-1])
    ended = testbed_command("data", "get", "tiny", "--to", tmp_path / "data", "--mirror", server[0])
    assert ended.code == 3 and "SHA-256" in ended.err
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]


def test_get_offline(testbed_command, catalog, tmp_path) -> None:
    assert testbed_command("data", "get", "tiny", "--to", tmp_path, "--offline").code == 3
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "file.bin").write_bytes(catalog)
    assert testbed_command("data", "get", "tiny", "--to", tmp_path, "--offline").code == 0


def test_get_lists_and_corrects_names(testbed_command, monkeypatch, tmp_path) -> None:
    listed = testbed_command("data", "get")
    assert listed.code == 0 and "mnist" in listed.out and "MB" in listed.out
    wrong = testbed_command("data", "get", "mnsit", "--to", tmp_path)
    assert wrong.code == 2 and "did you mean 'mnist'" in wrong.err
    monkeypatch.delenv("TESTBED_DATA", raising=False)
    nowhere = testbed_command("data", "get", "mnist")
    assert nowhere.code == 2 and "TESTBED_DATA" in nowhere.err


@pytest.fixture
def planted(tmp_path):
    """60 training and 20 test images of noise; test images 3 and 7 are re-coloured training images 5 and 40."""
    rng = np.random.default_rng(0)
    train = rng.integers(0, 200, (60, 32, 32, 3), dtype=np.uint8)
    test = rng.integers(0, 200, (20, 32, 32, 3), dtype=np.uint8)
    test[3], test[7] = (train[5] * 0.7 + 60).astype(np.uint8), train[40]
    labels = {"y_train": np.arange(60) % 4, "y_test": np.arange(20) % 4}
    np.savez(tmp_path / "set.npz", x_train=train, x_test=test, **labels)
    return ["npz", "-p", f"path={tmp_path / 'set.npz'}", "-p", "x=x_{part}", "-p", "y=y_{part}"]


def test_audit_finds_planted_copies(testbed_command, planted, tmp_path) -> None:
    ended = testbed_command("data", "audit", *planted, "--out", tmp_path / "pairs.csv", "--sheet", tmp_path / "s.png")
    assert ended.code == 0, ended.err
    assert "2 of 20 images of 'test' have a near-duplicate in 'train': 10.00 %" in ended.out
    assert "2 pairs differ in their label" in ended.out  # 3 % 4 against 5 % 4, 7 % 4 against 40 % 4
    rows = [line.split(",")[:2] for line in (tmp_path / "pairs.csv").read_text().splitlines()[1:]]
    assert sorted((int(a) % 10**9, int(b)) for a, b in rows) == [(3, 5), (7, 40)]
    from PIL import Image

    assert Image.open(tmp_path / "s.png").size == (5 * 192, 96)


def test_audit_within_one_part(testbed_command, planted) -> None:
    ended = testbed_command("data", "audit", *planted, "--part", "train", "--against", "train")
    assert ended.code == 0 and "0 of 60 images of 'train' have a near-duplicate within 'train'" in ended.out


def test_audit_refuses_what_it_cannot_do(testbed_command, planted) -> None:
    assert "no part 'tset'" in testbed_command("data", "audit", *planted, "--part", "tset").err
    assert testbed_command("data", "audit", "digitz").code == 2
