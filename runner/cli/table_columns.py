"""The columns of a table that fit into a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from runner.cli.terminal import wrapped

#: The space between two columns.
GAP = "  "


def width_of(widths: Sequence[int]) -> int:
    """Return the width of a row of columns with these widths, in characters."""
    return sum(widths) + len(GAP) * (len(widths) - 1)


def fitting_columns(
    head: Sequence[str], widths: Sequence[int], width: int | None, dispensable: Sequence[str]
) -> tuple[list[int], list[str]]:
    """Return the indexes of the columns that fit into ``width``, and the names of the other columns.

    ``dispensable`` names the columns to omit, with the least useful column first. A ``width`` of None is unlimited.
    """
    shown, left_out = list(range(len(head))), list[str]()
    for name in dispensable:
        if width is None or width_of([widths[column] for column in shown]) <= width:
            break
        shown.remove(head.index(name))
        left_out.append(name)
    return shown, left_out


def no_room(left_out: Sequence[str]) -> str:
    """Return a line about the columns that do not fit."""
    return wrapped(f"no room for {', '.join(left_out)}; to see all columns, use a wider terminal or --json")
