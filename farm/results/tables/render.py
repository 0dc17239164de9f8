"""Show the leaderboard and the pick: as a table, csv, json or markdown."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from farm.results.by_class import CLASS_COLUMNS, by_class
from farm.results.columns import COLUMNS, Row
from farm.results.names import outer, with_outer_names
from farm.results.picking.obstacles import obstacles
from farm.results.tables.column_choice import WIDE, left_out, shown_columns, that_fit
from farm.results.tables.escaping import for_csv, for_markdown
from farm.results.tables.marks import LOOKED_AT, legend, marked
from farm.results.tables.notes import origins, reasons
from farm.results.tables.values import Shown, is_numeric, texts
from farm.results.tables.views import View
from farm.terminal import plain
from farm.terminal.tables import table, terminal_width

FORMATS = ("table", "csv", "json", "markdown")

_ALL = View()


def sort_rows(rows: Sequence[Row]) -> list[Row]:
    """Sort rows by target and model, by rank, then the fastest first, failed ones last."""
    return sorted(
        rows,
        key=lambda row: (
            row["target"],
            row["sweep"],
            row["model"],
            row["status"] != "ok",
            row.get("rank") or float("inf"),
            row["latency_p50_ms"] or float("inf"),
        ),
    )


def looked_at(form: str, view: View = _ALL) -> frozenset[str] | None:
    """Return the columns that `render` looks at in one of `FORMATS`; None for all."""
    if form in ("csv", "json") and not view.columns:
        return None
    headed = (name for name, column in COLUMNS.items() if column.heading)
    wide = (name for name, _, _ in WIDE)
    more = ("cell", "device", "failed_stage", "reason", *wide)
    return view.looked_at.union(headed, LOOKED_AT, more)


def render(
    rows: Sequence[Row],
    form: str,
    view: View = _ALL,
    among: Sequence[Row] = (),
    coloured: bool = False,
    width: int | None = None,
) -> str:
    """Return the rows in one of `FORMATS`, ready to print.

    view: which rows and columns of them, and in which order. among: rows that are not shown and
    may share ranks with those. coloured: in a terminal, failed, unsteady and best rows of a table
    have rich's styles, which `terminal.styles.show` prints. width: see `terminal.tables.table`.
    """
    among = [*rows, *among]
    rows = view.of(sort_rows(rows))
    if form in ("csv", "json"):
        return render_columns(view.cut(rows), view.shown(), form)
    if not rows:
        return "\n".join(_none(among, view))
    if view.columns:
        return render_columns(rows, view.shown(), form, width)
    if form == "markdown":
        return _markdown(rows, among)
    made = _table_in_order if view.sort else _table
    return "\n\n".join(made(rows, among, width or terminal_width(), coloured))


def _none(rows: Sequence[Row], view: View) -> Iterator[str]:
    """What is said where no row is shown: which conditions are in the way."""
    yield f"None of {len(rows)} cells meets the conditions."
    for one in obstacles(rows, view.where):
        said = one.reason if one.reason.endswith("?") else f"{one.reason};"
        yield plain(f"  {one.constraint}: {said} {one.missed} cells do not meet it")


def _csv(rows: Sequence[Row], columns: Sequence[Shown] = ()) -> str:
    """Every column that one of the rows has; without rows, the names of `columns`."""
    out = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    names = names or [name for name, _, _ in columns] or list(COLUMNS)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(for_csv(outer(name)) for name in names)  # a file may have any names
    writer.writerows(zip(*(_csv_column(rows, name) for name in names), strict=True))
    return out.getvalue().rstrip("\n")


def _csv_column(rows: Sequence[Row], name: str) -> list[Any]:
    values: list[Any] = [row.get(name) for row in rows]
    texts = {value: for_csv(value) for value in set(values) if isinstance(value, str)}
    return [texts.get(value, value) for value in values] if texts else values


def render_by_class(rows: Sequence[Row], form: str, view: View = _ALL) -> str:
    """Return the AP of each class of each cell in one of `FORMATS`. view: of which cells.

    Raises:
        InputError: no cell has AP by class.
    """
    return render_columns(by_class(view.of(sort_rows(rows))), CLASS_COLUMNS, form)


def render_columns(
    rows: Sequence[Row], columns: Sequence[Shown], form: str, width: int | None = None
) -> str:
    """Return rows of any columns in one of `FORMATS`.

    columns: those of tables, all of which are shown, and markdown; csv and json have every column.
    width: see `terminal.tables.table`.
    """
    if form == "json":
        return json.dumps(with_outer_names(rows), indent=1)
    if form == "csv":
        return _csv(rows, columns)
    if form == "markdown":
        return _lined_markdown(rows, columns)
    return _lined(rows, columns, width)


def _markdown(rows: Sequence[Row], among: Sequence[Row]) -> str:
    rows = marked(rows, among)
    lines = _lined_markdown(rows, shown_columns(rows))
    below = legend(rows) + reasons(rows) + origins(rows)
    return "\n".join([lines, *map(for_markdown, below)])


def _lined_markdown(rows: Sequence[Row], columns: Sequence[Shown]) -> str:
    lines = ["| " + " | ".join(heading for _, heading, _ in columns) + " |"]
    lines.append("|" + "---|" * len(columns))
    for cells in zip(*(texts(rows, one, for_markdown) for one in columns), strict=True):
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _table(
    rows: Sequence[Row], among: Sequence[Row], width: int | None, coloured: bool
) -> Iterator[str]:
    """A block for each target and sweep, with the reasons of its failures below."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["target"], row["sweep"]), []).append(row)
    for (target, sweep), unmarked in groups.items():
        own = marked(unmarked, among)
        title = f"Leaderboard of sweep {sweep}, target {target}: {own[0]['device'] or ''}"
        title = plain(title).rstrip(": ")
        title = textwrap.fill(title, width, subsequent_indent="  ") if width else title
        yield f"{title}\n{_block(own, shown_columns(own), width, coloured)}"


def _table_in_order(
    rows: Sequence[Row], among: Sequence[Row], width: int | None, coloured: bool
) -> Iterator[str]:
    """One table for all targets and sweeps, whose rows keep their order."""
    differ = [name for name in ("target", "sweep") if len({row[name] for row in rows}) > 1]
    own = marked(rows, among)
    columns = [(name, name, "{}") for name in differ] + shown_columns(own)
    yield _block(own, columns, width, coloured)


def _block(rows: Sequence[Row], columns: Sequence[Shown], width: int | None, coloured: bool) -> str:
    """The table of the columns for which there is room, and what is to be said below."""
    left: Sequence[Shown] = ()
    if width:
        columns, left = that_fit(rows, columns, width)
    lines = [_lined(rows, columns, width, coloured)]
    lines += left_out(left, width) if width else []
    return "\n".join([*lines, *legend(rows), *reasons(rows), *origins(rows)])


def _lined(
    rows: Sequence[Row], columns: Sequence[Shown], width: int | None, coloured: bool = False
) -> str:
    """The columns under their headings."""
    headings = [heading for _, heading, _ in columns]
    cells = zip(*(texts(rows, one, str) for one in columns), strict=True)
    styles = [*map(_style, rows)] if coloured else ()
    return table(headings, cells, [*map(is_numeric, columns)], width, styles)


def _style(row: Row) -> str:
    """rich's style of a cell's row, if it has one: failed, unsteady, the best of its model."""
    if row["status"] == "failed":
        return "red"
    if row.get("stable") is False:
        return "yellow"
    rank: Any = row.get("rank")
    return "bold green" if rank is not None and str(rank).rstrip("=") == "1" else ""
