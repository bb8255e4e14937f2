"""The process attributes of programs that the tests start do not depend on those of the suite."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.running import ROOT

#: A program that prints its attributes. The tests start it as they start their programs.
SHOWN = """
import json, os, resource, signal, sys
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
umask = os.umask(0)
print(json.dumps({
    # glibc keeps 32 and 33 for itself: a parent may have them ignored, and no program can change that.
    "ignored": int(status["SigIgn"], 16) & ~(3 << 31), "blocked": int(status["SigBlk"], 16), "umask": umask,
    "core": resource.getrlimit(resource.RLIMIT_CORE)[0], "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    "environment": dict(os.environ), "encoding": sys.stdout.encoding,
}))
"""
#: Signals that Python itself ignores, in its own process.
PYTHONS = sum(1 << number - 1 for number in (13, 25))
STARTER = f"""
import subprocess, sys
from tests import inheritance
inheritance.reset()
said = subprocess.run([sys.executable, "-c", {SHOWN!r}], capture_output=True, text=True, check=True).stdout
with open(sys.argv[1], "w") as file:
    file.write(said)
"""
#: A program that starts the rest of its command line with some signals blocked.
BLOCKING = (
    "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT));"
    "os.execvp(sys.argv[1], sys.argv[1:])"
)
#: Shells and launchers. "$0" stands for the command of the suite.
SURROUNDINGS = {
    "a terminal": '"$0" "$@"',
    "nohup": 'nohup "$0" "$@"',
    "a background job of a script": '"$0" "$@" & wait $!',
    "nohup in the background": 'nohup "$0" "$@" & wait $!',
    "signals ignored that a shell ignores for a job": 'trap \'\' INT QUIT TSTP TTIN TTOU; "$0" "$@"',
    "the end of children ignored": 'trap \'\' CHLD; "$0" "$@"',
    "all signals ignored that can be": 'trap \'\' 1 2 3 10 12 14 15 17 18 20 21 22; "$0" "$@"',
    "signals blocked": f'{shlex.quote(sys.executable)} -c {shlex.quote(BLOCKING)} "$0" "$@"',
    "standard input closed": '"$0" "$@" <&-',
    "all three closed": '"$0" "$@" <&- >&- 2>&-',
    "a session without a terminal": 'setsid -w "$0" "$@" </dev/null',
    "no environment": 'env -i PYTHONPATH="$PYTHONPATH" "$0" "$@"',
    "a mask that forbids all to others": 'umask 077; "$0" "$@"',
    "cores": 'ulimit -S -c unlimited; "$0" "$@"',
    "few descriptors": 'ulimit -S -n 64; "$0" "$@"',
    "another encoding": 'LC_ALL=POSIX LANG=xx_XX "$0" "$@"',
    "a person's settings": 'RABBITMQ_URL=amqp://x/ PGHOST=nowhere http_proxy=http://127.0.0.1:1 NO_COLOR=1 "$0" "$@"',
    "settings of a server that builds": 'CI=true BUILD_NUMBER=7 FORCE_COLOR=1 COLUMNS=300 TZ=Asia/Kolkata "$0" "$@"',
    "settings of a broker": 'RABBITMQ_NODENAME=other RABBITMQ_CONFIG_FILE=/none ERL_FLAGS=-v "$0" "$@"',
    "makes own words": 'MAKELEVEL=1 MAKEFLAGS=-j4 "$0" "$@"',
}


def shown(how: str, folder: Path) -> Any:
    file = folder / "shown"
    command = ["sh", "-c", SURROUNDINGS[how], sys.executable, "-c", STARTER, str(file)]
    subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, timeout=60)
    return json.loads(file.read_text())


@pytest.mark.parametrize("how", SURROUNDINGS)
def test_programs_of_tests_get_the_same_attributes(how: str, tmp_path: Path) -> None:
    found = shown(how, tmp_path)
    environment = found.pop("environment")
    assert found.pop("files") >= 1024
    assert found == {"ignored": PYTHONS, "blocked": 0, "umask": 0o022, "core": 0, "encoding": "utf-8"}
    assert {"PATH", "HOME", "LANG"} <= environment.keys()
    forbidden = {"RABBITMQ_URL", "PGHOST", "http_proxy", "NO_COLOR", "MAKELEVEL", "MAKEFLAGS", "LC_ALL", "TZ"}
    forbidden |= {
        "CI",
        "BUILD_NUMBER",
        "FORCE_COLOR",
        "COLUMNS",
        "RABBITMQ_NODENAME",
        "RABBITMQ_CONFIG_FILE",
        "ERL_FLAGS",
    }
    assert not forbidden & environment.keys()


def test_the_suite_still_ignores_signals_that_its_parent_ignored(tmp_path: Path) -> None:
    source = (
        "import os, signal\nfrom tests import inheritance\ninheritance.reset()\n"
        "for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):\n    os.kill(os.getpid(), number)\n"
        "print('alive')"
    )
    done = subprocess.run(
        ["sh", "-c", "trap '' HUP INT QUIT; \"$0\" \"$@\"", sys.executable, "-c", source],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "alive\n", done.stderr
