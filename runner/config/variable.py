"""The values of ``${VAR}`` in YAML, from environment variables or from files that environment variables name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from runner.bounded_file import FileTooLarge, read_bounded

#: ``VAR_FILE`` names the file that contains the value of ``VAR``, as in the official Docker images of databases (Docker
#: Hub: "postgres", section "Docker Secrets").
SUFFIX = "_FILE"
#: The maximum file size in bytes. Docker allows secrets of up to 500 KB, but a URL or a password is smaller than 1 KB.
MAX_BYTES = 64 * 1024


def find_variable(name: str, environment: Mapping[str, str]) -> str | None:
    """Return the value of a variable, or None if the variable is unset or empty.

    If ``NAME_FILE`` is set instead, the value is the content of the named file. The file is read as UTF-8, and one
    newline at the end is removed. Raises ValueError if both variables are set or the file cannot be used. The error
    never contains the value.
    """
    value, path = environment.get(name), environment.get(f"{name}{SUFFIX}")
    if not path:
        return value or None
    if value:
        raise ValueError(f"environment variables {name!r} and {name + SUFFIX!r} are both set; unset one of them")
    return _content(f"environment variable {name + SUFFIX!r}", path)


def _content(where: str, path: str) -> str:
    # A supervisor's processes may have different working directories, so the path must be absolute. A text that is not
    # a path may be the secret itself, so the error does not show the text.
    if not Path(path).is_absolute():
        raise ValueError(f"{where} is not an absolute path; allowed: a file path that starts with /")
    try:
        text = read_bounded(Path(path), MAX_BYTES).decode()
    except FileTooLarge:
        raise ValueError(f"{where} names a file that is too large, {path!r}; allowed: {MAX_BYTES} bytes") from None
    except UnicodeDecodeError:
        # The codec's error contains the bytes, which may be secret.
        raise ValueError(f"{where} names a file that is not UTF-8, {path!r}; allowed: UTF-8 text") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(
            f"{where} names a file that cannot be read, {path!r}, {reason}; allowed: a file that this user can read"
        ) from None
    # Editors end a file with a newline. On Windows, a carriage return precedes the newline.
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise ValueError(f"{where} names an empty file, {path!r}; write the value into the file, or unset the variable")
    if "\0" in text or text.startswith("\N{ZERO WIDTH NO-BREAK SPACE}"):
        raise ValueError(f"{where} names a file with a NUL or a byte order mark, {path!r}; allowed: text with neither")
    return text
