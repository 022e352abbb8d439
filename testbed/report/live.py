"""The page of a run that is going on: a server on the loopback interface that makes it anew when the tables change.

The page asks for `mark`, a text that changes with the files it was made of, and loads itself again when that changes.
The page is made at most every few seconds and kept in memory. When the run's events say that it ended and its files
have stood still for a while, so that every reader had time to load the last page, report.html is written and the server
stops. A request whose Host header does not name this machine is refused.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from testbed.errors import EnvironmentProblem
from testbed.report.load import read_run
from testbed.report.page import page, write_page
from testbed.report.payload import progress

#: Seconds between two looks at the run folder, and for which the files of an ended run must stand still.
LOOK, LINGER = 2.0, 6.0

FILES = ("plan.json", "results.parquet", "samples.parquet", "jobs.parquet", "events.jsonl", "images/index.json")


def mark(folder: Path) -> str:
    """A text that changes whenever a file the page is made of does."""
    found = [(name, path.stat()) for name in FILES if (path := folder / name).exists()]
    return " ".join(f"{name}:{stat.st_mtime_ns}:{stat.st_size}" for name, stat in found)


def serve(folder: Path, port: int, announce: Callable[[str], None], look: float = LOOK, linger: float = LINGER) -> Path:
    """Serve the page at http://127.0.0.1:PORT/ (0 = any free port) until the run ends; returns report.html."""
    state = _State(folder)
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), _handler(state))
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot listen on 127.0.0.1:{port}: {error.strerror}; choose another --port"
        ) from None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    announce(f"http://127.0.0.1:{server.server_address[1]}/")
    try:
        still = 0.0
        while still < linger:
            ended, changed = state.look()
            still = still + look if ended and not changed else 0.0
            time.sleep(look)
    finally:
        server.shutdown()
        server.server_close()
    return write_page(read_run(folder))


class _State:
    """The newest page and its mark."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark, self.page = "", b""

    def look(self) -> tuple[bool, bool]:
        """Make the page anew if a file changed; whether the run has ended, and whether a file changed."""
        now, ended = mark(self.folder), bool(progress(self.folder / "events.jsonl")["ended"])
        changed = now != self.mark
        if changed:
            self.page = page(read_run(self.folder), live=True).encode()
            self.mark = now
        return ended, changed


def ours(host: str | None) -> bool:
    """Whether a request's Host header names this machine: a site whose name was bound to 127.0.0.1 reads nothing here.

    The port may be any, so that a forwarded one works.

    >>> ours("localhost:8000"), ours("evil.example:8000"), ours("localhost.evil.example"), ours(None)
    (True, False, False, False)
    """
    return (host or "").lower().partition(":")[0] in ("127.0.0.1", "localhost")


def _handler(state: _State) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not ours(self.headers.get("Host")):
                self.answer(403, "text/plain; charset=utf-8", b"ask for 127.0.0.1 or localhost")
            elif self.path == "/":
                self.answer(200, "text/html; charset=utf-8", state.page)
            elif self.path == "/mark":
                self.answer(200, "text/plain; charset=utf-8", state.mark.encode())
            else:
                self.answer(404, "text/plain; charset=utf-8", b"not here")

        def answer(self, code: int, kind: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Requests are not news."""

    return Handler
