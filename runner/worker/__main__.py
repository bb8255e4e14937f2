"""``python -m runner.worker SLOT < spec``: the command line between supervisor and worker."""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from runner import logs
from runner.config.fault import dotted
from runner.config.validation import validate
from runner.errors import EXIT_FAILURE, EXIT_TERMINATED, PluginError, RunnerError
from runner.lifeline import Lifeline
from runner.plugins import load_plugin
from runner.record import Record
from runner.suspects import Suspects
from runner.worker.spec import WorkerSpec
from runner.worker.worker import Worker

#: Seconds that a worker without a supervisor has before it is killed.
ORPHAN_GRACE = 2.0
#: Objects that come to be before Python looks for garbage among the youngest, and how often among older ones too
#: (``gc.set_threshold``). At its own 700 a third of what a publisher did was looking through events on their way.
COLLECTIONS = (10_000, 10, 10)


def main() -> int:
    """Run one worker; returns its exit code."""
    # Where each thread is, should it crash or be ended because it hangs.
    faulthandler.enable()
    lifeline, record, suspects = Lifeline.inherited(), Record.inherited(), Suspects.inherited()
    lifeline.watch(ORPHAN_GRACE)
    slot = sys.argv[1]
    spec = WorkerSpec.from_json(sys.stdin.buffer.read())
    log = logs.set_up(slot, spec.log_format, spec.log_level)
    # Relative paths in options mean the project's folder, wherever the runner was started.
    os.chdir(spec.folder)
    stop_requested = _stop_signals()
    try:
        plugin = load_plugin(spec.plugin, Path(spec.folder))
        options, faults = validate(plugin.options, dict(spec.options))
        if faults:
            lines = [
                # The value may come from a secret variable, which only the supervisor's files can tell.
                f"services.{spec.service}.options.{dotted(path)}: {text('the value')}"
                for path, text in faults
            ]
            raise PluginError("\n".join(lines))
        injected = None
        if spec.faults:
            from runner.faults.middleware import InjectedFaults

            injected = InjectedFaults(Path(spec.folder) / "var", spec.service)
        worker = Worker(spec, slot, plugin, options, lifeline, record, suspects, log, injected)
        if injected is not None:
            injected.watch(worker.io)
        _on_stop(stop_requested, worker)
        # What was imported stays, and needs no look for garbage.
        gc.freeze()
        gc.set_threshold(*COLLECTIONS)
        code = worker.run()
        # The supervisor, which may have sent it, knows; to it somebody else's signal is no failure.
        return EXIT_TERMINATED if code == 0 and stop_requested.is_set() else code
    except RunnerError as error:
        record.leaving()  # no message in hand has to do with it
        for line in str(error).splitlines():
            log.error("%s", line)
        return error.exit_code
    except Exception:
        log.exception("%s ended by an error", slot)
        return EXIT_FAILURE


def _on_stop(requested: threading.Event, worker: Worker) -> None:
    def wait() -> None:
        requested.wait()
        worker.stop()

    threading.Thread(target=wait, name="stop", daemon=True).start()


def _stop_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set.

    The handler only writes to a pipe: setting the event there could wait for a lock that the interrupted
    thread itself holds.
    """
    event = threading.Event()
    reader, writer = os.pipe()

    def wait() -> None:
        os.read(reader, 1)
        event.set()

    threading.Thread(target=wait, name="signals", daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.write(writer, b"x") and None)
    return event


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    # Not sys.exit: a plugin's own thread that never ends must not keep a stopped worker alive.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
