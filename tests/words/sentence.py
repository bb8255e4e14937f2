"""A sentence with its place, and the split of text into sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

_SENTENCE_END = re.compile(r"[.!?…][\"')\]*_`”]*(?=\s+[\"'(\[*_`“{]*[A-Z0-9`$«])")
_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|etc|cf|vs|approx|No)\.$")
_ITEM = re.compile(r"(?:[-*+]|\d+[.)])\s+")
#: String literals that are SQL, markup, patterns or commands.
_NO_PROSE = re.compile(
    r"^(?:import|from) \w+|^def \w+\(|^@\w+|^class \w+|\"\$@\"|"
    r"\b(?:SELECT|INSERT|UPDATE|DELETE FROM|CREATE|PRAGMA|ALTER|BEGIN|WHERE)\b|</?[a-z]+|[{}];|\{\s*\"|=="
    r"|\(\?[:<]|\\[bdsw]|::|#!/",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Sentence:
    """One sentence with its place; ``kind`` is opening, docstring, comment, message, name, docs, cell or heading.

    An opening is the first sentence of a docstring, or of a ``#:`` comment.
    """

    file: str
    line: int
    kind: str
    text: str

    @property
    def room(self) -> str:
        """The package or folder of the file."""
        parts = self.file.split("/")
        if len(parts) == 1:
            return self.file if self.file.endswith(".md") else "top level"
        if parts[0] == "runner":
            return f"runner/{parts[1]}" if len(parts) > 2 else "runner/*.py"
        return "/".join(parts[:2]) if parts[0] == "tests" and len(parts) > 2 else parts[0]

    @property
    def plain(self) -> str:
        """The text with a placeholder for each piece of code, and without the targets of links."""
        return _plain(self.text)


@cache
def _plain(text: str) -> str:
    text = re.sub(r"``.+?``|`[^`]+`", "CODE", text)
    text = re.sub(r"\]\([^)]*\)|<https?://[^>]*>", "]", text)
    return text.replace("[", "").replace("]", "")


def sentences(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Join numbered lines to a paragraph and split it into sentences, each with the line where it begins."""
    text, starts = "", []
    for number, line in lines:
        starts.append((len(text), number))
        text += line.strip() + " "
    begin = 0
    ends = [match.end() for match in _SENTENCE_END.finditer(text) if not _ABBREVIATION.search(text[: match.end()])]
    for end in [*ends, len(text)]:
        piece = text[begin:end]
        if piece.strip():
            offset = begin + len(piece) - len(piece.lstrip())
            yield max(number for start, number in starts if start <= offset), piece.strip()
        begin = end


def blocks(lines: Iterable[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """Split numbered lines at blank lines, at items of a list and around indented code."""
    block: list[tuple[int, str]] = []
    is_code, margin = False, 0
    for number, line in lines:
        bare = line.strip()
        indent = len(line) - len(line.lstrip())
        if is_code and (not bare or indent > margin):
            continue
        is_code = False
        item = _ITEM.match(bare)
        if not bare or item or bare.startswith((">>>", "..")):
            if block:
                yield block
            if not bare and block and block[-1][1].rstrip().endswith("::"):
                is_code = True
            block = []
            if not item:
                continue
            bare = bare[item.end() :]
        margin = indent
        block.append((number, bare))
    if block:
        yield block


def is_message(text: str) -> bool:
    """Return True if a string literal is prose: four words, and neither SQL, markup, a pattern nor a command."""
    return len(re.findall(r"[A-Za-z]{2,}", text.replace("{…}", ""))) >= 4 and " " in text and not _NO_PROSE.search(text)
