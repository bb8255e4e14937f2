"""The attributes that a test process inherits from its parent, set to the same values everywhere.

A parent may have changed signals, environment variables and limits:

- ``nohup`` ignores SIGHUP.
- A shell without job control ignores SIGINT and SIGQUIT in background jobs (POSIX, "Shell Command Language", 2.11).
- cron sets no HOME.
- An administrator may set limits.

All of these pass through fork and exec to the programs that the tests start. A test that needs other values sets them
itself.
"""

from __future__ import annotations

import os
import pwd
import resource
import signal

#: Signals that Python itself ignores. ``subprocess`` resets them in each child (``restore_signals``).
_PYTHONS_OWN = {signal.SIGPIPE, signal.SIGXFSZ}
_UNCHANGEABLE = {signal.SIGKILL, signal.SIGSTOP}
#: The number of open files that RabbitMQ and tests with many connections need. The soft limit is raised to it if
#: possible.
_DESCRIPTORS = 4096
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Personal settings in the environment, by name or by the prefix of the name.
_PERSONAL = (
    *("MAKELEVEL", "MAKEFLAGS", "MFLAGS"),
    # These change the output of programs. pytest does not shorten its summary if CI or BUILD_NUMBER is set.
    *("CI", "BUILD_NUMBER", "FORCE_COLOR", "NO_COLOR", "PY_COLORS", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "LINES"),
    *("TZ", "PYTHONWARNINGS", "PYTHONDEVMODE"),
)
_PERSONAL_PREFIXES = ("PG", "LC_", "RABBITMQ_", "ERL_")
_PROXIES = {"http_proxy", "https_proxy", "all_proxy", "ftp_proxy"}


def reset() -> None:
    """Set the usual attributes for this process and all its future children. Call this in the main thread."""
    _open_standard_descriptors()
    for number in signal.valid_signals() - _PYTHONS_OWN - _UNCHANGEABLE:
        if signal.getsignal(number) is signal.SIG_IGN:
            # exec resets a handler to the default, but an ignored signal stays ignored (execve(2)). So children get the
            # default, while this process still ignores the signal, as users of nohup expect.
            signal.signal(number, _ignore)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o022)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    _raise_descriptors()
    _reset_environment()


def _ignore(*_: object) -> None:
    pass


def _open_standard_descriptors() -> None:
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # open() uses the lowest free number, which is this one (open(2)).
            opened = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(opened, True)


def _raise_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _reset_environment() -> None:
    for name in list(os.environ):
        if name in _PERSONAL or name.startswith(_PERSONAL_PREFIXES) or name.lower() in _PROXIES:
            del os.environ[name]
    os.environ["LANG"] = "C.UTF-8"
    os.environ.setdefault("PATH", _PATH)
    if "HOME" not in os.environ:
        try:
            os.environ["HOME"] = pwd.getpwuid(os.geteuid()).pw_dir
        except KeyError:  # the user has a number but no name, as in a container
            os.environ["HOME"] = "/"
