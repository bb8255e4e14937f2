"""The style of a picture: rules for a page, and rules with colors for an SVG file."""

from __future__ import annotations

from pathlib import Path

#: The colors of a file for a light and a dark ground. A page defines the same names.
_LIGHT = {
    "surface": "#ffffff", "inset": "#eff1f4", "line": "#dde1e7", "edge": "#818b98", "text": "#15181d",
    "text-2": "#48515d", "text-3": "#5d6672",
}  # fmt: skip
_DARK = {
    "surface": "#161a20", "inset": "#1f252d", "line": "#2b323b", "edge": "#6b7684", "text": "#e9edf2",
    "text-2": "#b1bac5", "text-3": "#929daa",
}  # fmt: skip
_FONTS = {
    "sans": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif",
    "mono": "ui-monospace, SFMono-Regular, Menlo, Consolas, 'Liberation Mono', monospace",
}

_FOLDER = Path(__file__).parent


def page_style() -> str:
    """Return the rules for a page, which defines the colors and the fonts."""
    return _rules("picture.css") + _rules("live_picture.css")


def file_style() -> str:
    """Return the style of an SVG file, for a light and a dark ground."""
    light, dark = _definitions(_LIGHT | _FONTS), _definitions(_DARK)
    return (
        f"svg {{ {light} }}\n@media (prefers-color-scheme: dark) {{ svg {{ {dark} }} }}\n"
        ".ground { fill: var(--surface); stroke: var(--line) }\n" + _rules("picture.css")
    )


def _rules(name: str) -> str:
    lines = (_FOLDER / name).read_text("utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("/*"))


def _definitions(values: dict[str, str]) -> str:
    return " ".join(f"--{name}: {value};" for name, value in values.items())
