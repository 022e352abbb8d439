"""A user's code runs apart: it harms its own cell at most, and what it reads without saying so is noticed."""

import os
import signal
import threading
import time

from testbed.runner import apart, driver
from testbed.runner.outcome import Interrupted

HEAD = "def {name}(model, x, y, *, eps: float, rng):\n    {body}\n"
SAME = "return x"
GOOD = "return (x + eps).clamp(0, 1)"

#: name -> (body, word in the error of its cell, None where the cell is fine).
HOSTILE = {
    "segfault": ("import ctypes; ctypes.string_at(0)", "killed by SIGSEGV"),
    "killed": ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL"),
    "exits": ("import os; os._exit(0)", "exit code 0"),
    "keyboard": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "base": ("raise type('Odd', (BaseException,), {})('odd')", "Odd: odd"),
    "forks": ("import os; os.fork(); return x", "os.fork is refused"),
    "recursion": ("import sys; sys.setrecursionlimit(60); " + GOOD, None),
    "no_output": ("import os, sys; sys.stdout.close(); os.closerange(0, 3); " + GOOD, None),
    "no_files": ("import os; os.closerange(3, 60); " + GOOD, None),
    "defaults": ("import torch; torch.set_default_dtype(torch.float64); torch.set_grad_enabled(False); " + GOOD, None),
    "torch": ("import torch; torch.Tensor.argmax = lambda self, *a: self.new_zeros(len(self)).long(); " + SAME, None),
    "checks": ("import testbed.perturb.verify as v; v.budget = None; " + SAME, "NoneType"),
    "moves": ("import os; os.chdir('/'); os.environ.clear(); " + GOOD, None),
    "signals": ("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + GOOD, None),
    "threads": ("import threading, time; threading.Thread(target=time.sleep, args=(99,)).start(); " + GOOD, None),
}  # fmt: skip


def conditions(names):
    return [{"attack": f"./mine.py:{name}", "eps": 0.1} for name in names]


def test_whatever_an_attack_does_stays_in_its_cell(tiny, runs, tmp_path, look):
    (tmp_path / "mine.py").write_text("".join(HEAD.format(name=n, body=body) for n, (body, _) in HOSTILE.items()))
    (tmp_path / "good.py").write_text(HEAD.format(name="good", body=GOOD))
    tiny |= {"calibrators": ["none"], "metrics": ["accuracy"]}
    good = {"attack": "./good.py:good", "eps": 0.1}
    tiny["conditions"] = ["clean", good]
    alone = runs(tiny)
    tiny["conditions"] = [*conditions(HOSTILE), good, "clean"]
    finished = runs(tiny)
    again = {"good", "clean"}
    values = {r["condition"]: r["value"] for r in look.rows(alone, metric="accuracy") if r["condition"] in again}
    found = {r["condition"]: r for r in look.rows(finished, metric="accuracy") if r["condition"] != "worst"}
    assert {name: found[name]["value"] for name in again} == values and len(values) == 2
    for name, (_, said) in HOSTILE.items():
        if said is None:
            assert found[name]["status"] == "ok", (name, found[name]["error"])
        else:
            assert found[name]["value"] is None and said in found[name]["error"], (name, found[name]["error"])
    assert found["no_output"]["value"] == found["no_files"]["value"] == found["defaults"]["value"] == values["good"]
    assert found["torch"]["value"] == values["clean"]


def test_a_users_job_runs_in_a_process_that_runs_no_other(tiny, runs, tmp_path, look):
    note = tmp_path / "pids"
    body = f"import os; open({str(note)!r}, 'a').write(f'{{os.getpid()}} {{len(K)}}\\n'); K.append(1); return x"
    (tmp_path / "mine.py").write_text("K = []\n" + HEAD.format(name="one", body=body))
    tiny |= {"calibrators": ["none"], "metrics": ["accuracy"], "runtime": {"shard": 25}}
    tiny["conditions"] = conditions(["one"])
    runs(tiny)
    pids = [line.split() for line in note.read_text().splitlines()]
    assert len({pid for pid, _ in pids}) == len(pids) == 4 and str(os.getpid()) not in {pid for pid, _ in pids}
    assert {count for _, count in pids} == {"0"}


READS = '''
import os
from pathlib import Path
HERE = Path(__file__).parent

def {name}(model, x, y, *, eps: float, rng):
    """Reads a factor from a file beside it and a variable."""
    factor = float((HERE / "factor.txt").read_text()) * float(os.environ.get("LAB_FACTOR", "1"))
    return (x + factor * eps * (0.5 - x).sign()).clamp(0, 1)
'''


def test_an_undeclared_read_is_flagged_and_never_reused(tiny, runs, tmp_path, look, monkeypatch):
    monkeypatch.delenv("LAB_FACTOR", raising=False)
    (tmp_path / "factor.txt").write_text("1")
    (tmp_path / "silent.py").write_text(READS.format(name="silent"))
    (tmp_path / "open.py").write_text("reads = ['factor.txt', '$LAB_FACTOR']\n" + READS.format(name="told"))
    tiny |= {"calibrators": ["none"], "metrics": ["accuracy"]}
    tiny["conditions"] = ["clean", {"attack": ["./silent.py:silent", "./open.py:told"], "eps": 0.2}]

    def values(finished):
        rows = look.rows(finished, metric="accuracy")
        flagged = {row["condition"] for row in rows if "undeclared_read($LAB_FACTOR, factor.txt)" in row["flags"]}
        assert flagged == {"silent", "worst"}
        return {row["condition"]: row["value"] for row in rows}

    first, second = runs(tiny), runs(tiny)
    assert values(first) == values(second)
    assert set(look.started(second)) == {"attack", "forward", "worst", "score", "audit", "samples"}
    assert look.started(second).count("attack") == 1
    (tmp_path / "factor.txt").write_text("0")
    third = values(runs(tiny))
    assert third["silent"] == third["told"] == third["clean"] != values(first)["silent"]
    (tmp_path / "factor.txt").write_text("1")
    monkeypatch.setenv("LAB_FACTOR", "0")
    assert values(runs(tiny)) == third


def test_helpers_by_name_travel_and_temporary_files_are_no_reads(tiny, runs, tmp_path, look):
    (tmp_path / "helper.py").write_text("from pathlib import Path\nNAME = Path(__file__).name\nK = 1.0\n")
    body = (
        "import tempfile, torch, helper\n"
        "    with tempfile.TemporaryDirectory() as folder:\n"
        "        torch.save(x, folder + '/x.pt')\n"
        "        again = torch.load(folder + '/x.pt')\n"
        "    assert helper.NAME == 'helper.py'\n"
        "    return (again + helper.K * eps).clamp(0, 1)"
    )
    (tmp_path / "mine.py").write_text(HEAD.format(name="one", body=body))
    tiny |= {"calibrators": ["none"], "metrics": ["accuracy"], "conditions": conditions(["one"])}
    finished = runs(tiny)
    assert all(row["status"] == "ok" and "undeclared" not in row["flags"] for row in look.rows(finished))
    assert look.started(runs(tiny)) == []


def test_an_interrupt_ends_the_job_of_a_user_and_what_it_started(tiny, runs, tmp_path):
    note = tmp_path / "pids"
    body = (
        "import os, subprocess, time\n    child = subprocess.Popen(['sleep', '600'])\n"
        f"    open({str(note)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n    time.sleep(600)"
    )
    (tmp_path / "mine.py").write_text(HEAD.format(name="one", body=body))
    tiny |= {"calibrators": ["none"], "metrics": ["accuracy"], "conditions": conditions(["one"])}

    def interrupt():
        while not (note.is_file() and len(note.read_text().split()) == 2):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    finished = runs(tiny)
    assert isinstance(finished.cause, Interrupted)
    for pid in map(int, note.read_text().split()):
        end = time.monotonic() + 5
        while alive(pid) and time.monotonic() < end:
            time.sleep(0.05)
        assert not alive(pid)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - a zombie has ended
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_server_that_was_killed_is_started_again(tiny, runs, tmp_path, look):
    (tmp_path / "mine.py").write_text(HEAD.format(name="one", body=GOOD))
    tiny |= {"calibrators": ["none"], "metrics": ["accuracy"], "conditions": conditions(["one"])}
    os.kill(apart.server("testbed.runner.operations:perform").pid, signal.SIGKILL)
    assert all(row["status"] == "ok" for row in look.rows(runs(tiny)))
    assert driver.MAX_STARTS > 1
