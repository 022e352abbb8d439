"""Every command of the README, run in order in a folder that holds the files the README shows."""

import os
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, flags=re.M | re.S)
FILES = {body.split("\n", 1)[0].removeprefix("# ").strip(): body for kind, body in BLOCKS if kind in ("yaml", "python")}
COMMANDS = [re.sub(r"\s{2,}#.*", "", line) for kind, body in BLOCKS if kind == "sh" for line in body.splitlines()]
#: `make test` is what runs this; `make demo` has a test of its own below.
OWN = [command for command in COMMANDS if not command.startswith("make ")]


def environment() -> dict[str, str]:
    here = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": f"{here}{os.pathsep}{os.environ['PATH']}", "RAY_USAGE_STATS_ENABLED": "0"}


def end_all(mark: str) -> None:
    """Kill every process that has the mark in its environment.

    `ray stop` would end every cluster of the machine, also the one this very process is a driver of.
    """
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"README_TEST={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue  # ended by itself meanwhile, or another user's


def test_the_readme_shows_its_files_and_commands():
    assert set(FILES) == {"my_grid.yaml", "my_attack.py", "in_python.py", "my_stream.yaml"}
    assert {"make demo", "make test"} <= set(COMMANDS) and len(OWN) >= 10
    assert (ROOT / "docs" / "report.png").stat().st_size < 400_000


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_every_command_of_the_readme_works(tmp_path):
    for name, body in FILES.items():
        (tmp_path / name).write_text(body)
    mark = uuid.uuid4().hex
    try:
        for command in OWN:
            done = subprocess.run(
                command,
                shell=True,
                cwd=tmp_path,
                env={**environment(), "README_TEST": mark},
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
            no_data = "reproduce" in command and "TESTBED_DATA" not in os.environ  # nothing to be had is exit 3
            assert done.returncode == (3 if no_data else 0), f"$ {command}\n{done.stdout}\n{done.stderr}"
    finally:
        end_all(mark)
    assert (tmp_path / "runs" / "mine" / "report.html").stat().st_size > 100_000


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_make_demo_needs_no_network(tmp_path):
    """In a network namespace that has loopback only; the environment is made beforehand."""
    allowed = subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode == 0
    if not allowed:
        pytest.skip("this machine does not permit a network namespace")
    subprocess.run(["make", ".venv/installed"], cwd=ROOT, check=True, capture_output=True)
    code = (
        "import fcntl, os, socket, struct\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "flags = struct.unpack('16sh', fcntl.ioctl(s, 0x8913, struct.pack('16sh', b'lo', 0)))[1]\n"
        "fcntl.ioctl(s, 0x8914, struct.pack('16sh', b'lo', flags | 1))\n"
        "os.execvp('make', ['make', 'demo'])\n"
    )
    store = {**environment(), "TESTBED_STORE": str(tmp_path / "store")}
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-c", code],
        cwd=ROOT,
        env=store,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    page = re.search(r"report: (\S+report\.html)", done.stdout)
    assert page is not None and (ROOT / page[1]).exists(), done.stdout
