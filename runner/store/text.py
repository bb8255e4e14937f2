"""Text as every database takes it."""

from __future__ import annotations

#: Characters of what stands in an index, of which PostgreSQL takes 2,700 bytes at most.
MOST_INDEXED = 255


def storable(text: str, most: int | None = None) -> str:
    """``text`` without what no text column takes, cut to ``most`` characters.

    PostgreSQL has no NUL, and UTF-8 no lone surrogates.
    """
    found = text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
    return found if most is None or len(found) <= most else found[: most - 1] + "…"
