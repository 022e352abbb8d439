"""Downloads against a server on loopback that truncates, errs, lies, ignores ranges and serves HTML."""

import hashlib
import http.server
import threading

import numpy as np
import pytest

from testbed.data import fetch as module
from testbed.data.fetch import Remote, catalog, fetch, get
from testbed.errors import EnvironmentProblem, UsageError

BODY = np.random.default_rng(0).bytes(700_001)
SUM = hashlib.sha256(BODY).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """The path says how the server behaves: /truncate/..., /err/..., /html/..., /wrong/..., /norange/..., /good/..."""

    asked: list

    def do_GET(self):
        kind = self.path.split("/")[1]
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        tries = sum(path == self.path for path, _ in self.asked)
        self.asked.append((self.path, start))
        if kind == "missing":
            self.send_error(404)
        elif kind == "err" and tries < 2:
            self.send_error(503)
        elif kind == "html":
            self.answer(b"<html>sign in to the network</html>", "text/html; charset=utf-8")
        elif kind == "wrong":
            self.answer(BODY[::-1])
        elif kind == "long":
            self.answer(BODY + b"x")
        elif kind == "norange":
            self.answer(BODY[:300_000] if tries == 0 else BODY, length=len(BODY))
        elif kind == "truncate":
            self.answer(BODY[start : start + 250_000], status=206 if start else 200, length=len(BODY) - start)
        elif kind == "short":
            self.answer(BODY[:100_000])
        else:
            self.answer(BODY)

    def answer(self, body, kind="application/octet-stream", status=200, length=None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    handler = type("Fresh", (Handler,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        running.base, running.asked = f"http://127.0.0.1:{running.server_port}", handler.asked
        yield running
        running.shutdown()


def remote(server, *kinds):
    return Remote("set/a.bin", tuple(f"{server.base}/{kind}/a.bin" for kind in kinds), len(BODY), SUM)


@pytest.mark.parametrize(
    ("kinds", "asked"),
    [
        (["good"], [("good", 0)]),
        (["truncate"], [("truncate", 0), ("truncate", 250_000), ("truncate", 500_000)]),
        (["err"], [("err", 0)] * 3),
        (["html", "good"], [("html", 0), ("good", 0)]),
        (["missing", "wrong", "good"], [("missing", 0), ("wrong", 0), ("good", 0)]),
        (["long", "good"], None),
        (["norange"], [("norange", 0), ("norange", 300_000)]),
    ],
    ids=lambda value: "-".join(value) if value and isinstance(value[0], str) else "",
)
def test_the_file_arrives_whole_whatever_the_server_does(server, tmp_path, kinds, asked):
    path = fetch(remote(server, *kinds), tmp_path, pause=0)

    assert path.read_bytes() == BODY and [p.name for p in path.parent.iterdir()] == ["a.bin"]
    if asked is not None:
        assert [(p.split("/")[1], start) for p, start in server.asked] == asked


def test_a_file_that_is_there_is_only_checked_and_a_damaged_one_is_fetched_again(server, tmp_path):
    path = fetch(remote(server, "good"), tmp_path)
    fetch(remote(server, "good"), tmp_path)
    assert len(server.asked) == 1
    path.write_bytes(BODY[:-1])
    assert fetch(remote(server, "good"), tmp_path).read_bytes() == BODY


def test_an_interrupted_download_goes_on(server, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.bin.part").write_bytes(BODY[:600_000])

    assert fetch(remote(server, "truncate"), tmp_path).read_bytes() == BODY
    assert [start for _, start in server.asked] == [600_000]


def test_what_every_mirror_said_is_in_the_error(server, tmp_path):
    with pytest.raises(EnvironmentProblem) as error:
        fetch(remote(server, "missing", "html", "wrong", "short"), tmp_path, pause=0, attempts=2)
    text = str(error.value)

    assert "answers 404" in text and "serves an HTML page" in text and "the file there has SHA-256" in text
    assert "breaks off after 100000 of 700001 bytes, 2 times" in text
    assert not (tmp_path / "set" / "a.bin").exists()


def test_nobody_listening_is_an_error_not_a_traceback(tmp_path):
    with pytest.raises(EnvironmentProblem, match="Connection refused"):
        fetch(Remote("a.bin", ("http://127.0.0.1:9/a.bin",), 5, SUM), tmp_path, attempts=1)


def test_offline_asks_nobody(server, tmp_path, monkeypatch):
    monkeypatch.setenv("TESTBED_OFFLINE", "1")
    with pytest.raises(EnvironmentProblem, match=f"offline: .*{SUM}"):
        fetch(remote(server, "good"), tmp_path)
    assert not server.asked


def test_a_named_set_from_a_mirror(server, tmp_path, monkeypatch):
    monkeypatch.setattr(
        module, "catalog", lambda: {"toy": (Remote("toy/a.bin", ("http://127.0.0.1:9/a.bin",), len(BODY), SUM),)}
    )
    seen = []
    (path,) = get(
        "toy",
        tmp_path,
        mirrors=[f"{server.base}/good"],
        progress=lambda name, have, size: seen.append((name, have, size)),
    )

    assert path == tmp_path / "toy" / "a.bin" and seen[-1] == ("toy/a.bin", len(BODY), len(BODY))
    with pytest.raises(UsageError, match="did you mean 'toy'"):
        get("toyy", tmp_path)


def test_a_laboratorys_mirror_is_named_by_the_environment_and_laid_out_as_the_data_folder(
    server, tmp_path, monkeypatch
):
    remote = Remote("toy/a.bin", ("http://127.0.0.1:9/a.bin",), len(BODY), SUM)
    monkeypatch.setattr(module, "catalog", lambda: {"toy": (remote,)})
    monkeypatch.setenv("TESTBED_MIRRORS", f"{server.base}/missing {server.base}/good/")

    (path,) = get("toy", tmp_path)

    assert path.read_bytes() == BODY
    assert [asked for asked, _ in server.asked] == ["/missing/toy/a.bin", "/missing/a.bin", "/good/toy/a.bin"]


def test_without_a_folder_it_says_so(monkeypatch):
    monkeypatch.delenv("TESTBED_DATA", raising=False)
    with pytest.raises(UsageError, match="set TESTBED_DATA or give a folder"):
        get("mnist")


def test_the_catalog_is_well_formed():
    for name, entry in catalog().items():
        assert entry, name
        for file in entry:
            assert (
                len(file.sha256) == 64
                and file.size > 0
                and all(url.endswith(file.path.split("/")[-1]) for url in file.urls)
            )
