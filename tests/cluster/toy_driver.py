"""A driver as a program, so that tests can kill it.

    python toy_driver.py STORE EXECUTOR SETS READERS SECONDS [WORKERS]

Prints one line a job that was started, and exits as the command line does: 0, 1, 3, or 130 after Ctrl-C, also where the
tests run in the background of a shell, whose children ignore it.
"""

from __future__ import annotations

import signal
import sys

import toy_jobs as toy

from testbed.errors import TestbedError
from testbed.runner.driver import Executor, run
from testbed.runner.events import Event
from testbed.runner.outcome import Interrupted
from testbed.runner.worker import Setting
from testbed.store import Store


def main(url: str, kind: str, sets: str, readers: str, seconds: str, workers: str = "2") -> int:
    """Run the toy grid."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    jobs, wanted = toy.grid(int(sets), int(readers), float(seconds))
    store = Store(url)

    def tell(event: Event) -> None:
        if event.name in ("started", "finished"):
            print(event.name, event.fields.get("pid", ""), flush=True)

    try:
        outcome = run(jobs, wanted, store, executor(kind, store, int(workers)), listener=tell)
    except Interrupted:
        return 130
    except TestbedError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0 if outcome.ok else 1


def executor(kind: str, store: Store, workers: int) -> Executor:
    """serial, child (serial with a time limit) or ray."""
    setting = Setting(toy.OPERATION, store.url)
    if kind == "ray":
        from testbed.runner.ray import Ray

        return Ray(setting, workers=workers)
    from testbed.runner.serial import Serial

    return Serial(setting, 60.0 if kind == "child" else None)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
