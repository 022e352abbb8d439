"""The live page: served on loopback, new when the tables change, gone when the run ends."""

import json
import queue
import threading
import urllib.error
import urllib.request

import pytest

from testbed.errors import EnvironmentProblem
from testbed.report import live


def get(address: str | urllib.request.Request) -> str:
    """What the server answers, without a proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(address, timeout=20).read().decode()


def test_page_changes_with_the_run_and_ends_with_it(write_run, tmp_path) -> None:
    folder = write_run(tmp_path / "r", images=False)
    events = folder / "events.jsonl"
    events.write_text('{"event": "planned", "total": 4, "cached": 0}\n')
    announced: queue.Queue[str] = queue.Queue()
    done: list[object] = []
    thread = threading.Thread(
        target=lambda: done.append(live.serve(folder, 0, announced.put, look=0.05, linger=0.5)), daemon=True
    )
    thread.start()
    address = announced.get(timeout=60)
    assert address.startswith("http://127.0.0.1:")
    before = get(address + "mark")
    while not before:
        before = get(address + "mark")
    assert '"live":true' in get(address)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(address + "plan.json")
    for host in ("evil.example", f"evil.example:{address.rsplit(':', 1)[1][:-1]}", "localhost.evil.example", ""):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            get(urllib.request.Request(address, headers={"Host": host}))

    (folder / "plan.json").write_text(json.dumps({"name": "renamed while it ran"}))
    while get(address + "mark") == before:
        pass
    assert "renamed while it ran" in get(address)

    events.write_text(events.read_text() + '{"event": "ended"}\n')
    thread.join(timeout=60)
    assert done == [folder / "report.html"]
    assert '"live":false' in (folder / "report.html").read_text()
    with pytest.raises(OSError):
        get(address)


def test_a_taken_port_is_an_environment_problem(synthetic_run) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(EnvironmentProblem, match="--port"):
            live.serve(synthetic_run, taken.getsockname()[1], lambda address: None)
