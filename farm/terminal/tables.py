"""Tables as text: wrapped to the width of a terminal, and as wide as they are in a pipe.

Rows may have colours; nothing in a cell can steer the terminal. rich folds texts and knows the
widths of characters; the rest is laid out here, by the distinct texts of each column, since rich
takes a millisecond a row.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from farm.terminal import plain
from farm.terminal.colours import painted

if TYPE_CHECKING:
    from rich.table import Table

_UNBOUNDED = 1 << 20
"""Columns that no line of ours has."""

_USUAL = 80
"""What a table in a pipe should fit; where it does not, its gaps are narrower."""

_LEAST_TEXT = 8
"""Texts are folded to no fewer columns; where that is too wide, the table is divided."""

_Column = Sequence[str]
"""The texts of a column, that of its heading first."""


def terminal_width() -> int | None:
    """Return the columns of the terminal that stdout is; None where it is a file or a pipe."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    numeric: Sequence[bool],
    width: int | None = None,
    styles: Sequence[str] = (),
) -> str:
    """Lay out rows under their headings, which a line of dashes divides.

    numeric: the columns whose texts are aligned to the right, and never folded.
    width: the columns to fit, by default those of the terminal: with narrower gaps, else with the
    longest texts folded, else with the last columns in further tables, by the number of the row.
    In a pipe texts are not folded and tables not divided; gaps are narrower over 80 columns.
    styles: of each row, one of `colours.STYLES` or ''; without them there are no colours.
    """
    width = width or terminal_width()
    lines = (headings, *rows)
    columns = [_plain_column(column) for column in zip(*lines, strict=True)]
    widths = [_width(column) for column in columns]
    gap = 2 if sum(widths) + 2 * (len(widths) - 1) <= (width or _USUAL) else 1
    if width is None:
        return _laid_out(columns, numeric, widths, gap, styles)
    least = [
        own if right else min(own, _LEAST_TEXT) for own, right in zip(widths, numeric, strict=True)
    ]
    room = width - gap * (len(widths) - 1)
    if sum(least) > room:
        return _divided(columns, numeric, width, styles)
    return _laid_out(columns, numeric, _narrowed(widths, numeric, room), gap, styles)


def _plain_column(column: _Column) -> _Column:
    shown = {text: plain(text) for text in set(column)}
    return [shown[text] for text in column]


def _cells(text: str) -> int:
    """The columns of a terminal that a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _width(column: _Column) -> int:
    """The columns of a terminal that a column takes, when nothing is folded."""
    return max(map(_cells, set(column)))


def _narrowed(widths: Sequence[int], numeric: Sequence[bool], room: int) -> list[int]:
    """The widths in which a table fits: the widest columns of texts lose as much as it needs."""
    found = list(widths)
    texts = [index for index, right in enumerate(numeric) if not right]
    for _ in range(sum(found) - room):
        found[max(texts, key=lambda index: found[index])] -= 1
    return found


def _divided(
    columns: Sequence[_Column], numeric: Sequence[bool], width: int, styles: Sequence[str]
) -> str:
    """The table as several tables, each with as many columns as fit, after the row's number."""
    numbers = ["#", *map(str, range(1, len(columns[0])))]
    first = _width(numbers)
    groups: list[list[int]] = []
    room = 0
    for index, column in enumerate(columns):
        own = _width(column)
        if room < own + 1 or not groups:
            groups.append([])
            room = width - first
        groups[-1].append(index)
        room -= own + 1
    tables = []
    for group in groups:
        part = [numbers, *(columns[index] for index in group)]
        right = [True, *(numeric[index] for index in group)]
        tables.append(_laid_out(part, right, [_width(column) for column in part], 1, styles))
    return "\n\n".join(tables)


def _laid_out(
    columns: Sequence[_Column],
    numeric: Sequence[bool],
    widths: Sequence[int],
    gap: int,
    styles: Sequence[str],
) -> str:
    """The columns beside one another, with a line of dashes below the headings."""
    padded: list[list[list[str]]] = []
    for column, right, width in zip(columns, numeric, widths, strict=True):
        shown = {text: _padded(text, right, width) for text in set(column)}
        padded.append([shown[column[0]], ["-" * width], *[shown[text] for text in column[1:]]])
    between = " " * gap
    if all(len(cell) == 1 for column in padded for cell in column):
        rows = zip(*[[cell[0] for cell in column] for column in padded], strict=True)
        lines = [[between.join(line).rstrip()] for line in rows]
    else:
        lines = [
            [between.join(line).rstrip() for line in _lines(row, widths)]
            for row in zip(*padded, strict=True)
        ]
    if styles:
        own = ("", "", *styles)  # the headings and the dashes have none
        lines = [[painted(line, one) for line in row] for row, one in zip(lines, own, strict=True)]
    return "\n".join([line for row in lines for line in row])


def _padded(text: str, right: bool, width: int) -> list[str]:
    """The lines of a cell, each as wide as its column."""
    lines = [text] if _cells(text) <= width else _folded(text, width)
    gaps = [" " * (width - _cells(line)) for line in lines]
    return [gap + line if right else line + gap for gap, line in zip(gaps, lines, strict=True)]


def _folded(text: str, width: int) -> list[str]:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=io.StringIO(), width=width, color_system=None, force_jupyter=False)
    return [line.plain.rstrip() for line in Text(text).wrap(console, width, overflow="fold")]


def _lines(cells: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterator[Iterable[str]]:
    """The lines of one row: as many as its cell with most lines has."""
    for index in range(max(map(len, cells), default=0)):
        yield (
            cell[index] if index < len(cell) else " " * width
            for cell, width in zip(cells, widths, strict=True)
        )


def fields(pairs: Iterable[tuple[str, str]], indent: int = 2) -> str:
    """Lay out names and values, a pair a line; a value may have several lines, and none is folded,
    so that a path can be copied."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    for name, value in pairs:
        grid.add_row(Text(" " * indent + plain(name)), Text(plain(value, "\n")))
    return _rendered(grid, _UNBOUNDED)


def _rendered(made: Table, width: int) -> str:
    """The table as plain text, whatever variables of the environment ask for."""
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=width, height=25, color_system=None, force_jupyter=False).print(made)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip("\n").split("\n"))
