"""Tables as text: in a terminal laid out by rich within its width, elsewhere padded columns.

Nothing in a cell can steer the terminal, and nothing in it is markup.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Literal

from farm.terminal import plain

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_UNBOUNDED = 1 << 20
"""Columns that no line of ours has."""

_USUAL = 80
"""What a table in a pipe should fit; where it does not, its gaps are narrower."""

_LEAST_TEXT = 8
"""Texts and headings are folded to no fewer columns before numbers are folded, too."""

_MANY = 1000
"""Rows of a table of rich's take a third of a millisecond; where nothing is to be folded, more rows
than these are a text of rich's."""

_DASHES = "    \n    \n -- \n    \n    \n    \n    \n    \n"
"""rich's form of a table of which only the headings are divided from the rows, in ASCII."""

Colours = Literal["standard", "256", "truecolor", "windows"]
"""rich's names for the sets of colours that terminals have."""

_Column = Sequence[str]
"""The texts of a column, that of its heading first."""


def terminal_width() -> int | None:
    """Return the columns of the terminal that stdout is; None where it is a file or a pipe."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns


def color_system() -> Colours | None:
    """Return rich's name for the colours of the terminal that stdout is.

    None where stdout is no terminal or has no colours (`TERM=dumb`), and where NO_COLOR is set.
    """
    if terminal_width() is None:
        return None
    from rich.console import Console

    console = Console(file=sys.stdout)
    found: Any = console.color_system  # one of these names
    return None if console.no_color else found


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    numeric: Sequence[bool],
    width: int | None = None,
    styles: Sequence[str] = (),
) -> str:
    """Lay out rows under their headings, which a line of dashes divides.

    In a terminal, what is too wide has narrower gaps, and where that does not do its longest texts
    are folded. In a file or a pipe nothing is folded.

    numeric: the columns whose texts are aligned to the right; where it can be, only their headings
    are folded.
    width: the columns to fit, by default those of the terminal.
    styles: rich's style of each row, or ''. Where stdout has colours the text then has their codes,
    which `terminal.styles.show` prints.
    """
    width = width or terminal_width()
    columns = [_plain_column(column) for column in zip(headings, *rows, strict=True)]
    widths = [text_width(column) for column in columns]
    gap = 2 if sum(widths) + 2 * (len(widths) - 1) <= (width or _USUAL) else 1
    if width is None:
        return _padded(columns, numeric, widths, gap)
    least = [
        _least_of_numbers(column) if right else min(own, _LEAST_TEXT)
        for column, right, own in zip(columns, numeric, widths, strict=True)
    ]
    fitting = _narrowed(widths, least, width - gap * (len(widths) - 1))
    made: Table | Text
    if fitting == widths and len(columns[0]) > _MANY:
        made = _lines(_padded(columns, numeric, widths, gap).split("\n"), styles)
    else:
        made = _rich_table(columns, numeric, fitting, gap, styles)
    needed = sum(fitting) + gap * (len(fitting) - 1)
    return _rendered(made, max(width, needed), color_system() if styles else None)


def text_width(texts: Iterable[str]) -> int:
    """Return the columns of a terminal that the widest of the texts takes."""
    return max(map(_cells, set(texts)), default=0)


def _least_of_numbers(column: _Column) -> int:
    """The width in which the numbers and the words of the heading are not folded."""
    return max(text_width(column[1:]), min(text_width(column[0].split()), _LEAST_TEXT))


def _plain_column(column: _Column) -> _Column:
    shown = {text: plain(text) for text in set(column)}
    return [shown[text] for text in column]


def _cells(text: str) -> int:
    """The columns of a terminal that a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _padded(
    columns: Sequence[_Column], numeric: Sequence[bool], widths: Sequence[int], gap: int
) -> str:
    """The columns beside one another, as wide as their texts."""
    padded = []
    for column, right, width in zip(columns, numeric, widths, strict=True):
        spaces = {text: " " * (width - _cells(text)) for text in set(column)}
        shown = {text: one + text if right else text + one for text, one in spaces.items()}
        padded.append([shown[column[0]], "-" * width, *[shown[text] for text in column[1:]]])
    return "\n".join([(" " * gap).join(line).rstrip() for line in zip(*padded, strict=True)])


def _narrowed(widths: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """The widths in which a table fits: always the widest column loses one, of those that are
    wider than their least; where all have that, of all.

    rich by itself would fold a number before the heading of another one.
    """
    found = list(widths)
    for floor in (least, [1] * len(found)):
        while sum(found) > room and (wider := [i for i, own in enumerate(found) if own > floor[i]]):
            found[max(wider, key=found.__getitem__)] -= 1
    return found


def _rich_table(
    columns: Sequence[_Column],
    numeric: Sequence[bool],
    widths: Sequence[int],
    gap: int,
    styles: Sequence[str],
) -> Table:
    from rich.box import Box
    from rich.table import Table
    from rich.text import Text

    made = Table(
        box=Box(_DASHES, ascii=True), show_edge=False, pad_edge=False, padding=(0, gap - 1, 0, 0)
    )
    cells = []
    for column, right, width in zip(columns, numeric, widths, strict=True):
        texts = {text: Text(text) for text in set(column)}
        made.add_column(
            texts[column[0]],
            justify="right" if right else "left",
            width=width,
            overflow="fold",
        )
        cells.append([texts[text] for text in column[1:]])
    for row, style in zip_longest(zip(*cells, strict=True), styles):
        made.add_row(*row, style=style or None)
    return made


def _lines(lines: Sequence[str], styles: Sequence[str]) -> Text:
    """The lines of a table, of which the first is the headings and the second the dashes."""
    from rich.text import Text

    of_lines = zip_longest(lines, ("bold", "", *styles), fillvalue="")
    parts = [(f"{line}\n", style) for line, style in of_lines]
    return Text.assemble(*parts, no_wrap=True, overflow="ignore")


def fields(pairs: Iterable[tuple[str, str]], indent: int = 2) -> str:
    """Lay out names and values, a pair a line; a value may have several lines, and none is folded,
    so that a path can be copied."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    for name, value in pairs:
        grid.add_row(Text(" " * indent + plain(name)), Text(plain(value, "\n")))
    return _rendered(grid, _UNBOUNDED)


def _rendered(made: Table | Text, width: int, colors: Colours | None = None) -> str:
    """It as text, whatever variables of the environment ask for. colors: see
    `color_system`."""
    from rich.console import Console

    out = io.StringIO()
    console = Console(
        file=out, width=width, height=25, color_system=colors, no_color=False, force_jupyter=False
    )
    console.print(made)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip("\n").split("\n"))
