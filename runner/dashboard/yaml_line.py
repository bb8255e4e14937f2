"""A YAML file as numbered lines, with links from names, marks for edits, and errors and findings below their lines."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

from runner.config.document import Document
from runner.dashboard.secret_text import hide_secrets

#: A quoted text, a comment, or a word that may be a name.
_TOKEN = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^']|'')*')|((?:^|(?<=\s))\#.*)|([\w.:-]*[\w.-])""")


@dataclass(frozen=True)
class LinePart:
    """A piece of a line. ``href`` is the address of a node in the picture, or empty."""

    text: str
    href: str = ""
    is_comment: bool = False


@dataclass(frozen=True)
class LineNote:
    """An error or a finding about a line."""

    #: ``bad`` for an error, ``warn`` for a finding.
    level: str
    text: str
    code: str = ""
    name: str = ""
    link: str = ""


@dataclass(frozen=True)
class YamlLine:
    """One line of a file."""

    number: int
    parts: Sequence[LinePart]
    notes: Sequence[LineNote] = ()
    #: True if the running file does not have this line.
    is_edited: bool = False
    is_match: bool = False

    @property
    def level(self) -> str:
        """The worst level of the notes, or an empty string."""
        return min((one.level for one in self.notes), default="")


@dataclass
class NodeLinks:
    """The addresses of the nodes of the picture, by the names in the files."""

    names: Mapping[str, str] = field(default_factory=dict)
    #: The services, which are linked only at their own entry: other keys may have the same name.
    services: frozenset[str] = frozenset()

    def of(self, word: str, *, is_service_key: bool) -> str:
        """Return the address for a word, or an empty string."""
        if is_service_key and word in self.services:
            return flow_address(f"service {word}")
        return flow_address(self.names[word]) if word in self.names else ""


def flow_address(node: str) -> str:
    """Return the address of a node in the picture, such as ``queue audit.events``."""
    return f"/?{urlencode({'node': node})}" if node else ""


def yaml_lines(
    document: Document,
    notes: Mapping[int, Sequence[LineNote]],
    links: NodeLinks,
    running: str | None,
    find: str,
    hide: Callable[[str], str] = str,
) -> list[YamlLine | None]:
    """Return the lines of a file. None stands for lines that are left out, because they do not match ``find``.

    ``running`` is the text of the running file, or None if it is unknown. ``hide`` masks personal data in a line.
    """
    texts = document.text.splitlines() or [""]
    # An error at the end of a file may be below its last line.
    placed: dict[int, list[LineNote]] = defaultdict(list)
    for number, found in notes.items():
        placed[min(max(number, 1), len(texts))].extend(found)
    edited = set() if running is None else _edited(running.splitlines(), texts)
    services = {document.line(("services", name)): name for name in document.keys_of("services")}
    safe = hide_secrets(texts)
    shown, matches = _matching(safe, placed, find)
    lines: list[YamlLine | None] = []
    for number, text in enumerate(safe, 1):
        if number not in shown:
            if not lines or lines[-1] is not None:
                lines.append(None)
            continue
        parts = _parts(hide(text), links, services.get(number, ""))
        lines.append(YamlLine(number, parts, placed.get(number, ()), number in edited, number in matches))
    return lines


def _parts(text: str, links: NodeLinks, service: str) -> list[LinePart]:
    parts: list[LinePart] = []
    end = 0
    for match in _TOKEN.finditer(text):
        if match.start() > end:
            parts.append(LinePart(text[end : match.start()]))
        end = match.end()
        quoted, comment, word = match.groups()
        is_key = text[end:].lstrip().startswith(":")
        if comment is not None:
            parts.append(LinePart(comment, is_comment=True))
        elif word is not None:
            parts.append(LinePart(word, links.of(word, is_service_key=is_key and word == service)))
        else:
            # A quoted value is a routing key or a text. A quoted key is a name.
            parts.append(LinePart(quoted, links.of(quoted[1:-1], is_service_key=False) if is_key else ""))
    if end < len(text):
        parts.append(LinePart(text[end:]))
    return parts


def _edited(before: list[str], after: list[str]) -> set[int]:
    """Return the lines of ``after`` that are not in ``before``."""
    start = 0
    while start < min(len(before), len(after)) and before[start] == after[start]:
        start += 1
    end = 0
    while end < min(len(before), len(after)) - start and before[-1 - end] == after[-1 - end]:
        end += 1
    # In a long file, lines that occur often only extend other matches (difflib's autojunk). Otherwise, the time would
    # grow with the square of the number of lines, because most queues have the same settings.
    matcher = difflib.SequenceMatcher(None, before[start : len(before) - end], after[start : len(after) - end])
    return {
        start + line + 1
        for action, _, _, first, last in matcher.get_opcodes()
        if action in ("replace", "insert")
        for line in range(first, last)
    }


def _matching(texts: list[str], notes: Mapping[int, object], find: str) -> tuple[set[int], set[int]]:
    """Return the lines to show and the lines that contain ``find``.

    Shown are the matching lines, the lines below them that are indented further, the keys above them, and lines with
    errors or findings.
    """
    every = set(range(1, len(texts) + 1))
    if not find:
        return every, set()
    words = find.lower()
    matches = {number for number, text in enumerate(texts, 1) if words in text.lower()}
    shown = matches | notes.keys()
    indents = [len(text) - len(text.lstrip()) if text.strip() else None for text in texts]
    for number in matches:
        own = indents[number - 1] or 0
        for below in range(number, len(texts)):
            indent = indents[below]
            if indent is not None and indent <= own:
                break
            shown.add(below + 1)
        least = own
        for above in range(number - 2, -1, -1):
            indent = indents[above]
            if indent is not None and indent < least and not texts[above].lstrip().startswith("#"):
                shown.add(above + 1)
                least = indent
    return shown, matches
