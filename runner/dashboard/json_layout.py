"""The layout of a JSON document, in which all values stay as they were written."""

from __future__ import annotations

import re

#: A string, a bracket, a separator, or another value.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+', re.DOTALL)


def indented(document: str) -> str:
    """Return a valid JSON document with one value in each line, indented by two spaces."""
    parts, depth = list[str](), 0
    tokens = _TOKEN.findall(document)
    for number, token in enumerate(tokens):
        following = tokens[number + 1] if number + 1 < len(tokens) else ""
        if token in ("{", "["):
            depth += 1
            parts.append(token if following in ("}", "]") else f"{token}\n{'  ' * depth}")
        elif token in ("}", "]"):
            depth -= 1
            is_empty = tokens[number - 1] in ("{", "[")
            parts.append(token if is_empty else f"\n{'  ' * depth}{token}")
        else:
            parts.append({",": f",\n{'  ' * depth}", ":": ": "}.get(token, token))
    return "".join(parts)
