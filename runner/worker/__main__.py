"""``python -m runner.worker SLOT < spec``, the command that the supervisor uses to start a worker."""

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
from runner.config.error_detail import dotted
from runner.config.validation import validate
from runner.errors import EXIT_FAILURE, EXIT_TERMINATED, PluginError, RunnerError
from runner.ipc.crashing_messages import CrashingMessages
from runner.ipc.lifeline import Lifeline
from runner.ipc.shared_memory import SharedMemory
from runner.plugins import load_plugin
from runner.worker.lifecycle import Worker
from runner.worker.spec import WorkerSpec

#: Seconds that a worker may still run after its supervisor has exited.
ORPHAN_GRACE = 2.0
#: The thresholds of Python's garbage collector (``gc.set_threshold``). With the default of 700 objects, a publisher
#: spent a third of its time on garbage collection, because all unconfirmed events are still in use.
COLLECTIONS = (10_000, 10, 10)


def main() -> int:
    """Run one worker and return its exit code."""
    # If the worker crashes, or is killed because it hangs, the log shows the stack of each thread.
    faulthandler.enable()
    lifeline, memory, crashing = Lifeline.inherited(), SharedMemory.inherited(), CrashingMessages.inherited()
    lifeline.watch(ORPHAN_GRACE)
    slot = sys.argv[1]
    spec = WorkerSpec.from_json(sys.stdin.buffer.read())
    log = logs.set_up(slot, spec.log_format, spec.log_level)
    # Relative paths in options are resolved against the project's folder, not the shell's current folder.
    os.chdir(spec.folder)
    stop_requested = _stop_signals()
    try:
        plugin = load_plugin(spec.plugin, Path(spec.folder))
        options, errors = validate(plugin.options, dict(spec.options))
        if errors:
            lines = [
                # The value is not shown, because it may come from a secret variable, and the worker cannot check
                # whether it does.
                f"services.{spec.service}.options.{dotted(path)}: {text('the value')}"
                for path, text in errors
            ]
            raise PluginError("\n".join(lines))
        injected = None
        if spec.faults:
            from runner.faults.middleware import InjectedFaults

            injected = InjectedFaults(Path(spec.folder) / "var", spec.service)
        history = None
        if spec.history or spec.statuses is not None:
            from runner.history.worker_history import WorkerHistory

            history = WorkerHistory(spec.statuses)
        worker = Worker(spec, slot, plugin, options, lifeline, memory, crashing, log, injected, history)
        if injected is not None:
            injected.watch(worker.io)
        _on_stop(stop_requested, worker)
        # Imported modules remain in memory until the process exits, so the garbage collector can ignore them.
        gc.freeze()
        gc.set_threshold(*COLLECTIONS)
        code = worker.run()
        # The supervisor knows whether it sent the signal. A signal from another process does not count as a failure.
        return EXIT_TERMINATED if code == 0 and stop_requested.is_set() else code
    except RunnerError as error:
        memory.leaving()  # no message caused this exit
        for line in str(error).splitlines():
            log.error("%s", line)
        return error.exit_code
    except Exception:
        log.exception("%s crashed", slot)
        return EXIT_FAILURE


def _on_stop(requested: threading.Event, worker: Worker) -> None:
    def wait() -> None:
        requested.wait()
        worker.stop()

    threading.Thread(target=wait, name="stop", daemon=True).start()


def _stop_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set.

    The signal handler only writes to a pipe. If the signal handler itself set the event, it could deadlock on a lock of
    the interrupted thread.
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
    # ``sys.exit`` would wait for the plugin's threads, which may never stop.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
