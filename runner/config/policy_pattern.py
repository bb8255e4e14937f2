r"""Policy patterns, which are PCRE regular expressions.

RabbitMQ searches the bytes of a name for a policy's pattern with Erlang's ``re`` (``rabbit_policy:matches``), without
the ``unicode`` option. Character classes such as ``\w`` follow Latin-1 up to Erlang/OTP 27, and ASCII since Erlang/OTP
28.

A search that exceeds the step limit finds no match. The limit is 10,000,000 steps up to RabbitMQ 4.2.8 and 4.3.1, and
50,000 steps in later versions (``rabbit_re``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pcre2

#: The maximum length of a pattern in bytes, since RabbitMQ 4.2.9 and 4.3.2 (``rabbit_re:max_pattern_length``).
MAX_PATTERN_BYTES = 1024
#: The maximum number of steps in a search. The number is below RabbitMQ's lowest limit, because PCRE and PCRE2 count
#: steps differently.
MAX_STEPS = 20_000

#: Constructs that PCRE 8 (up to Erlang/OTP 27) and PCRE2 (since 28) interpret differently (PCRE2: "ChangeLog", 10.30
#: and 10.43).
_AMBIGUOUS = (
    (re.compile(rb"\A\(\*"), "begins with an option, '(*…)'"),
    (
        re.compile(rb"(?<!\\)(?:\\\\)*(?:\{\s*,\s*\d+\s*\}|\{(?=[^}]*\s)\s*\d+\s*(,\s*\d*\s*)?\})"),
        "has a quantifier without a lower bound or with spaces",
    ),
    (re.compile(rb"\[:\^?ascii:\]"), "has the class [:ascii:]"),
    (re.compile(rb"\(\?(R|[+-]?\d|&|P>)|\\g(<|')"), "has a recursive or subroutine call"),
)
#: Character classes whose non-ASCII members differ from Erlang's Latin-1 table in both compiled forms.
_UNSURE = re.compile(rb"\[:\^?(punct|graph|lower):\]")


def only(name: str) -> str:
    r"""Return the pattern that matches ``name`` and no other name.

    The pattern ends in ``\z``, because ``$`` also matches before a final line feed, which a name may contain.
    """
    return rf"^{re.escape(name)}\z"


def only_names(pattern: str) -> tuple[str, ...] | None:
    """Return the only names that a pattern matches, or None if the pattern is not an escaped name."""
    for end in (r"\z", "$"):
        if pattern.startswith("^") and pattern.endswith(end):
            escaped = pattern[1 : -len(end)]
            name = re.sub(r"\\(.)", r"\1", escaped, flags=re.DOTALL)
            if re.escape(name) == escaped:
                return (name,) if end != "$" else (name, f"{name}\n")
    return None


def pattern_problem(pattern: str) -> str | None:
    """Return why a pattern cannot be used, or None if the pattern is valid."""
    reading = _read(pattern)
    return reading if isinstance(reading, str) else None


def matches(pattern: str, name: str) -> bool | None:
    """Return True if RabbitMQ finds ``pattern`` in ``name``, or None if the match cannot be evaluated."""
    if (names := only_names(pattern)) is not None:
        return name in names
    reading = _read(pattern)
    return None if isinstance(reading, str) else reading.matches(name.encode("utf-8", "surrogatepass"))


@dataclass(frozen=True)
class _Reading:
    """A pattern in two compiled forms, with approximate Latin-1 classes and with ASCII classes.

    Erlang/OTP uses Latin-1 classes up to version 27, and ASCII classes since version 28.
    """

    latin: pcre2.Pattern
    ascii: pcre2.Pattern
    is_unsure: bool

    def matches(self, name: bytes) -> bool | None:
        found = _search(self.latin, name)
        if name.isascii():
            return found
        return found if not self.is_unsure and _search(self.ascii, name) == found else None


def _search(pattern: pcre2.Pattern, name: bytes) -> bool | None:
    import pcre2

    try:
        return pattern.search(name) is not None
    except pcre2.LibraryError:
        return None  # too many steps


@cache
def _read(pattern: str) -> _Reading | str:
    """Return the compiled pattern, or the reason why the pattern cannot be used."""
    # Imported here, because commands that use no pattern must start quickly.
    import pcre2

    raw = pattern.encode("utf-8", "surrogatepass")
    if len(raw) > MAX_PATTERN_BYTES:
        return f"has {len(raw)} bytes; allowed: up to {MAX_PATTERN_BYTES}"
    for form, words in _AMBIGUOUS:
        if form.search(raw):
            return f"the pattern {words}, so its meaning depends on RabbitMQ's Erlang version"
    limit = b"(*LIMIT_MATCH=%d)" % MAX_STEPS
    try:
        # Just-in-time compiled patterns count steps differently.
        latin = pcre2.compile(b"(*UCP)" + limit + raw, jit=False)
        return _Reading(latin, pcre2.compile(limit + raw, jit=False), _UNSURE.search(raw) is not None)
    except pcre2.PatternError as error:
        return str(error).rpartition("; ")[2]
