"""The Markdown of an exercise as HTML. Only the forms that exercises use are known, and all text is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterator

from markupsafe import Markup, escape

_INLINE = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*|\[([^\]]+)\]\(([^)\s]+)\)")
_ITEM = re.compile(r"(- |\d+\. )")
_SAMPLE = "    "


def markup_of(text: str) -> Markup:
    """Return HTML for paragraphs, lists, indented or fenced samples, and headings below the title."""
    return Markup("\n").join(_blocks(text.splitlines()))


def inline_markup(text: str) -> Markup:
    """Return HTML for a line with code, bold text and links. Links to files are shown as text."""
    parts: list[Markup] = []
    end = 0
    for match in _INLINE.finditer(text):
        parts.append(escape(text[end : match.start()]))
        end = match.end()
        code, bold, label, target = match.groups()
        if code is not None:
            parts.append(Markup("<code>{}</code>").format(code))
        elif bold is not None:
            parts.append(Markup("<b>{}</b>").format(bold))
        elif target.startswith(("https://", "http://")):
            parts.append(Markup('<a href="{}" target="_blank" rel="noreferrer">{}</a>').format(target, label))
        else:
            parts.append(escape(label))
    return Markup("").join([*parts, escape(text[end:])])


def _blocks(lines: list[str]) -> Iterator[Markup]:
    at = 0
    while at < len(lines):
        line = lines[at]
        start = at
        if not line.strip():
            at += 1
        elif line.startswith("```"):
            at = next((n for n in range(at + 1, len(lines)) if lines[n].startswith("```")), len(lines))
            yield _sample(lines[start + 1 : at])
            at += 1
        elif line.startswith(_SAMPLE):
            while at < len(lines) and (lines[at].startswith(_SAMPLE) or not lines[at].strip()):
                at += 1
            yield _sample([one.removeprefix(_SAMPLE) for one in lines[start:at]])
        elif line.startswith("# "):
            at += 1  # the page has the title
        elif line.startswith("#"):
            at += 1
            yield Markup("<h3>{}</h3>").format(line.lstrip("# "))
        elif _ITEM.match(line):
            while at < len(lines) and (_ITEM.match(lines[at]) or lines[at].startswith("  ")):
                at += 1
            yield _list(lines[start:at])
        else:
            while at < len(lines) and lines[at].strip() and not _is_block(lines[at]):
                at += 1
            yield Markup("<p>{}</p>").format(inline_markup(" ".join(one.strip() for one in lines[start:at])))


def _is_block(line: str) -> bool:
    return bool(line.startswith((_SAMPLE, "```", "#")) or _ITEM.match(line))


def _sample(lines: list[str]) -> Markup:
    # A long line can be scrolled with the keyboard.
    return Markup('<pre class="code" tabindex="0">{}</pre>').format("\n".join(lines).strip("\n"))


def _list(lines: list[str]) -> Markup:
    items: list[str] = []
    for line in lines:
        if match := _ITEM.match(line):
            items.append(line[match.end() :])
        else:
            items[-1] = f"{items[-1]} {line.strip()}"
    around = Markup("<ol>{}</ol>") if lines[0][0].isdecimal() else Markup("<ul>{}</ul>")
    body = Markup("").join(Markup("<li>{}</li>").format(inline_markup(one)) for one in items)
    return around.format(body)
