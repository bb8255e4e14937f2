"""Secrets in the lines of a YAML file, which the page must not show. Names of environment variables remain.

Comments contain secrets too, and so do the lines after an error. Their text is read line by line and not as YAML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from runner.dashboard.secret_places import OPTIONS, SECRET, SecretFinder, SecretPlace

_HIDDEN = "•••"
_REFERENCE = r"\$\{[^{}]*\}"
#: A login in a URL. Everything up to the last @ can belong to the password.
_LOGIN = re.compile(rf"""//((?:{_REFERENCE}|[^/\s:@"'])*):((?:{_REFERENCE}|[^\s"'])*)@""")
#: A key and the beginning of its value. A reference such as ``${TOKEN:-x}`` is not a key.
_KEY = re.compile(r"""(?<![\w-])(?<!\$\{)([\w-]+)(?:["']\s*:\s*|\s*:(?:\s+|$))""")
#: A setting in a text, such as ``password=…`` in the address of a database.
_SETTING = re.compile(r"""(?<![\w-])([\w-]+)=([^\s"'&;,{}]+)""")
_DEFAULT = re.compile(r"(\$\{\w+)(:?-)([^{}]+)")
_QUOTED = re.compile(r"""\"(?:[^"\\]|\\.)*("?)|'(?:[^']|'')*('?)""")
_IN_BRACKETS = re.compile(rf"(?:{_REFERENCE}|[^,}}\]])*")
#: A brace, or a quoted text, whose braces do not count.
_BRACE = re.compile(rf"[{{}}]|{_QUOTED.pattern}|{_REFERENCE}")
_LIST = re.compile(r"\[[^\]]*(\]?)")
_PLAIN = re.compile(r"(?:(?!\s+#).)*")
#: The beginning of a value that continues on the lines below.
_BLOCK = re.compile(r"[|>][-+\d]*\s*(#.*)?$")
_COMMENT = re.compile(r"(?:^|\s)#")
#: An anchor or a tag before a value.
_MARK = re.compile(r"[&!]\S*\s+|[&!]\S*$")
_NESTED_KEY = re.compile(r"""\s*(- +)?["']?[\w.-]+["']?\s*:(\s|$)""")


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
    return (
        line
        if comment is None
        else line[: comment.start()] + _hidden_values(line[comment.start() :], is_option=True)[0]
    )


def _without_settings(line: str) -> str:
    return _DEFAULT.sub(_hidden_default, _SETTING.sub(_hidden_setting, _LOGIN.sub(_hidden_login, line)))


def _hidden(lines: Sequence[str]) -> Iterator[str]:
    #: The column of a secret key whose value continues, and how it continues.
    column, continues = -1, ""
    #: The indentation of the line with the key ``options`` that contains this line, or -1.
    options = -1
    for line in lines:
        indent = len(line) - len(line.lstrip())
        is_empty = not line.strip() or line.lstrip().startswith("#")
        if not is_empty and indent <= options:
            options = -1
        if column >= 0 and line.strip() and (indent > column or not is_empty):
            # The items of a list may begin in the column of its key.
            is_item = continues != "text" and indent == column and re.match(r"\s*-(\s|$)", line)
            if indent <= column and not is_item:
                column = -1
            elif continues != "keys" or not _NESTED_KEY.match(line):
                yield f"{line[:indent]}{_HIDDEN}"
                continue
        text, found, how = _hidden_values(line, is_option=options >= 0)
        if found >= 0:
            column, continues = found, how
        if options < 0 and any(key[1] == OPTIONS for key in _KEY.finditer(line)):
            options = indent
        yield _without_settings(text)


def _hidden_values(line: str, *, is_option: bool) -> tuple[str, int, str]:
    """Return a line without the values of secret keys.

    If a value continues below, return the column of its key, and how it continues. Otherwise the column is -1.
    """
    parts: list[str] = []
    end = 0
    for match in _KEY.finditer(line):
        is_option |= match[1] == OPTIONS
        if match.start() < end or not SECRET.search(match[1]):
            continue
        parts.append(line[end : match.end()])
        value, end, continues = _value(line, match.end(), is_option=is_option)
        parts.append(value)
        if continues:
            before = line[: match.start()]
            # A value in brackets may continue in any column after that of its line.
            column = len(line) - len(line.lstrip()) if before.count("{") > before.count("}") else match.start()
            return "".join([*parts, line[end:]]), column, continues
    return "".join([*parts, line[end:]]), -1, ""


def _value(line: str, start: int, *, is_option: bool) -> tuple[str, int, str]:
    """Return a hidden value, its end, and how it continues below.

    It continues as a ``text``, as a ``block`` that is hidden, as ``keys`` that are checked one by one, or not at all.
    """
    while mark := _MARK.match(line, start):
        start = mark.end()
    rest = line[start:]
    if not rest.strip() or rest.lstrip().startswith("#"):
        return "", start, "block" if is_option else "keys"
    if match := _BLOCK.match(rest):
        return match[0], start + match.end(), "text"
    if match := _QUOTED.match(rest):
        is_closed = bool(match[1] or match[2])
        return _shown(match[0], is_closed=is_closed), start + match.end(), "" if is_closed else "text"
    if rest[0] == "{":
        # Outside of options, the keys in the braces are checked one by one.
        length, how = _braces(rest) if is_option else (0, "")
        return f"{{{_HIDDEN}}}" if is_option else "", start + length, how
    if match := _LIST.match(rest):
        return f"[{_HIDDEN}]", start + match.end(), "" if match[1] else "text"
    is_in_brackets = line[:start].count("{") > line[:start].count("}")
    text = "".join((_IN_BRACKETS if is_in_brackets else _PLAIN).findall(rest)[:1])
    return _shown(text), start + len(text), ""


def _braces(text: str) -> tuple[int, str]:
    """Return the length of the braces at the beginning of a text, and how they continue below."""
    depth = 0
    for match in _BRACE.finditer(text):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return match.end(), ""
    return len(text), "text"


def _shown(value: str, *, is_closed: bool = True) -> str:
    """Return a value that consists of references or is empty, and otherwise the sign for a hidden value."""
    quote = value[0] if value[:1] in ("'", '"') else ""
    content = value[1:-1] if quote and is_closed else value[len(quote) :]
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
