"""Secrets in the lines of a YAML file, which the page must not show. Names of environment variables remain.

Comments contain secrets too, and so do the lines after an error. Their text is read line by line and not as YAML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from runner.dashboard.secret_places import SECRET, SecretFinder, SecretPlace

_HIDDEN = "•••"
_REFERENCE = r"\$\{[^{}]*\}"
#: A login in a URL. Everything up to the last @ can belong to the password.
_LOGIN = re.compile(rf"""//((?:{_REFERENCE}|[^/\s:@"'])*):((?:{_REFERENCE}|[^\s"'])*)@""")
#: A key and the beginning of its value. A reference such as ``${TOKEN:-x}`` is not a key.
_KEY = re.compile(r"""(?<![\w-])(?<!\$\{)([\w-]+)(?:["']\s*:\s*|\s*:(?:\s+|$))""")
#: A setting in a text, such as ``password=…`` in the address of a database.
_SETTING = re.compile(r"""(?<![\w-])([\w-]+)=([^\s"'&;,{}]+)""")
_DEFAULT = re.compile(r"(\$\{\w+)(:?-)([^{}]+)")
_COMMENT = re.compile(r"(?:^|\s)#")


def hide_secrets(lines: Sequence[str]) -> list[str]:
    """Return the lines of a file without passwords and tokens."""
    found, result = SecretFinder("\n".join(lines)), list(lines)
    for place in sorted(found.places, reverse=True):
        _hide(result, place)
    end = len(lines) if found.end is None else found.end
    return [_without_settings(_without_comments(line)) for line in result[:end]] + list(_hidden(result))[end:]


def _hide(lines: list[str], place: SecretPlace) -> None:
    """Replace a scalar in ``lines``."""
    line, column, end, end_column, is_block = place
    if line == end:
        text = lines[line]
        lines[line] = f"{text[:column]}{_shown(text[column:end_column])}{text[end_column:]}"
        return
    if not is_block:
        quote = lines[line][column] if lines[line][column] in ("'", '"') else ""
        lines[line] = f"{lines[line][:column]}{quote}{_HIDDEN}{quote}"
    for number in range(line + 1, end + bool(end_column)):
        text = lines[number]
        rest = text[end_column:] if number == end else ""
        lines[number] = f"{text[: len(text) - len(text.lstrip())]}{_HIDDEN}{rest}" if text.strip() else text


def _without_comments(line: str) -> str:
    comment = _COMMENT.search(line)
    return line if comment is None else line[: comment.start()] + _without_value(line[comment.start() :])


def _without_settings(line: str) -> str:
    return _DEFAULT.sub(_hidden_default, _SETTING.sub(_hidden_setting, _LOGIN.sub(_hidden_login, line)))


def _hidden(lines: Sequence[str]) -> Iterator[str]:
    """Yield lines that YAML cannot read, without all that follows a secret key in its line and in deeper lines."""
    #: The indentation of the line with the secret key, or -1.
    column = -1
    for line in lines:
        indent = len(line) - len(line.lstrip())
        # The items of a list may begin in the column of its key.
        if column >= 0 and (indent > column or (indent == column and line.lstrip()[:1] == "-")):
            yield f"{line[:indent]}{_HIDDEN}"
            continue
        if line.strip() and not line.lstrip().startswith("#"):
            column = indent if any(SECRET.search(key[1]) for key in _KEY.finditer(line)) else -1
        yield _without_settings(_without_value(line))


def _without_value(line: str) -> str:
    """Return a line without all that follows its first secret key."""
    end = next((key.end() for key in _KEY.finditer(line) if SECRET.search(key[1])), len(line))
    return f"{line[:end]}{_shown(line[end:])}"


def _shown(value: str) -> str:
    """Return a value that consists of references or is empty, and otherwise the sign for a hidden value."""
    quote = value[0] if value[:1] in ("'", '"') else ""
    content = value[1:-1] if quote else value
    if re.fullmatch(rf"(?:{_REFERENCE})*\s*", content):
        return value
    return f"{quote}{_HIDDEN}{quote}"


def _hidden_login(match: re.Match[str]) -> str:
    is_reference = re.fullmatch(rf"(?:{_REFERENCE})*", match[2])
    return match[0] if is_reference else f"//{match[1]}:{_HIDDEN}@"


def _hidden_setting(match: re.Match[str]) -> str:
    return f"{match[1]}={_HIDDEN}" if SECRET.search(match[1]) else match[0]


def _hidden_default(match: re.Match[str]) -> str:
    return f"{match[1]}{match[2]}{_HIDDEN}" if SECRET.search(match[1]) else match[0]
