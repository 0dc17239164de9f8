"""Show the leaderboard and the pick: as a table, csv, json or markdown."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from farm.results.by_class import CLASS_COLUMNS, by_class
from farm.results.columns import COLUMNS, Row
from farm.results.escaping import for_csv, for_markdown
from farm.results.marks import LOOKED_AT, Marked, legend, marked
from farm.results.names import outer, with_outer_names
from farm.results.picking.obstacles import obstacles
from farm.results.views import View
from farm.store.origins import HERE
from farm.terminal import plain, plain_lines
from farm.terminal.tables import table, terminal_width

FORMATS = ("table", "csv", "json", "markdown")

_WIDE = (
    ("vs_best", "vs best", "{:.2f}"),
    ("latency_p90_ms", "p90 ms", "{:.2f}"),
    ("latency_min_ms", "min ms", "{:.2f}"),
    ("box_ap50", "AP50", "{:.4f}"),
    ("matched_fraction", "matched", "{:.3f}"),
    ("max_score_diff", "score diff", "{:.4f}"),
    ("samples", "samples", "{:d}"),
    ("build_s", "build s", "{:.1f}"),
    ("threads", "threads", "{:d}"),
    ("runtime_version", "version", "{}"),
    ("measured_at", "measured (UTC)", "{}"),
)
"""What a table has besides where the terminal is wide enough, in this order."""

Shown = tuple[str, str, str]
"""Column, heading, format."""

_ALL = View()

_FIRST = (
    "model", "runtime", "opset", "shape", "postprocess", "precision", "box_ap", "box_ap_drop",
    "voc_map", "mask_ap", "cosine", "latency_p50_ms", "rank", "speedup_vs_fp32",
    "throughput_per_s", "status", "origin",
)  # fmt: skip
"""The order in tables, which then fit 80 columns in most cases; csv and json have every column."""


def value_text(value: Any, pattern: str) -> str:
    if value is None:
        return "-"
    if isinstance(value, Marked):
        return value
    # Adding 0.0 turns -0.0 into 0.0: "-0.0000" would look like a difference.
    return plain(pattern.format(round(value, 4) + 0.0 if isinstance(value, float) else value))


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
    wide = (name for name, _, _ in _WIDE)
    more = ("cell", "device", "failed_stage", "reason", *wide)
    return view.looked_at.union(headed, LOOKED_AT, more)


def render(
    rows: Sequence[Row],
    form: str,
    view: View = _ALL,
    among: Sequence[Row] = (),
    coloured: bool = False,
) -> str:
    """Return the rows in one of `FORMATS`, ready to print.

    view: which rows and columns of them, and in which order. among: rows that are not shown and
    may share ranks with those. coloured: failed, unsteady and best rows of a table have colours,
    which `terminal.colours.show` prints.
    """
    among = [*rows, *among]
    rows = view.of(sort_rows(rows))
    if form in ("csv", "json"):
        return render_columns(view.cut(rows), view.shown(), form)
    if not rows:
        return "\n".join(_none(among, view))
    if view.columns:
        return render_columns(rows, view.shown(), form)
    if form == "markdown":
        return _markdown(rows, among)
    made = _table_in_order if view.sort else _table
    return made(rows, among, coloured)


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


def render_columns(rows: Sequence[Row], columns: Sequence[Shown], form: str) -> str:
    """Return rows of any columns in one of `FORMATS`.

    columns: those of tables and markdown; csv and json have every column.
    """
    if form == "json":
        return json.dumps(with_outer_names(rows), indent=1)
    if form == "csv":
        return _csv(rows, columns)
    if form == "markdown":
        return _lined_markdown(rows, columns)
    return _lined(rows, columns)


def shown_columns(rows: Sequence[Row]) -> list[Shown]:
    """Return the columns with a heading in which a row differs from the default."""
    defaults = {"postprocess": "graph", "precision": "fp32", "origin": HERE}
    headed = [name for name, column in COLUMNS.items() if column.heading]
    return [
        (name, COLUMNS[name].heading, COLUMNS[name].form)
        for name in dict.fromkeys((*_FIRST, *headed))
        if any(row.get(name) not in (None, defaults.get(name)) for row in rows)
    ]


def _that_fit(rows: Sequence[Row], columns: Sequence[Shown]) -> list[Shown]:
    """The columns and, in a wide terminal, as many more as it has room for."""
    found, room = list(columns), terminal_width() or 0
    looked_at = {name for row in rows[:1] for name in row}
    room -= sum(_width(rows, one) for one in found)
    for one in _WIDE if room > 0 else ():
        known = one[0] in looked_at and any(row[one[0]] is not None for row in rows)
        if known and room >= (width := _width(rows, one)):
            found.append(one)
            room -= width
    return found


def _width(rows: Sequence[Row], column: Shown) -> int:
    """The columns of a terminal that a column takes, with the gap before it."""
    return 2 + max(len(column[1]), *map(len, _texts(rows, column, str)))


def _markdown(rows: Sequence[Row], among: Sequence[Row]) -> str:
    rows = marked(rows, among)
    lines = _lined_markdown(rows, shown_columns(rows))
    below = legend(rows) + _reasons(rows) + _origins(rows)
    return "\n".join([lines, *map(for_markdown, below)])


def _lined_markdown(rows: Sequence[Row], columns: Sequence[Shown]) -> str:
    lines = ["| " + " | ".join(heading for _, heading, _ in columns) + " |"]
    lines.append("|" + "---|" * len(columns))
    for cells in zip(*(_texts(rows, one, for_markdown) for one in columns), strict=True):
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _table(rows: Sequence[Row], among: Sequence[Row], coloured: bool) -> str:
    """A block for each target and sweep, with the reasons of its failures below."""
    blocks = []
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["target"], row["sweep"]), []).append(row)
    for (target, sweep), unmarked in groups.items():
        own = marked(unmarked, among)
        title = f"Leaderboard of sweep {sweep}, target {target}: {own[0]['device'] or ''}"
        title = _folded(plain(title).rstrip(": "))
        lines = [title, _lined(own, _that_fit(own, shown_columns(own)), coloured)]
        blocks.append("\n".join(lines + legend(own) + _reasons(own) + _origins(own)))
    return "\n\n".join(blocks)


def _folded(title: str) -> str:
    """The title on as many lines as the terminal needs."""
    width = terminal_width()
    return textwrap.fill(title, width, subsequent_indent="  ") if width else title


def _table_in_order(rows: Sequence[Row], among: Sequence[Row], coloured: bool) -> str:
    """One table for all targets and sweeps, whose rows keep their order."""
    differ = [name for name in ("target", "sweep") if len({row[name] for row in rows}) > 1]
    rows = marked(rows, among)
    columns = _that_fit(rows, [(name, name, "{}") for name in differ] + shown_columns(rows))
    return "\n".join(
        [_lined(rows, columns, coloured), *legend(rows), *_reasons(rows), *_origins(rows)]
    )


def _texts(rows: Sequence[Row], column: Shown, escaped: Callable[[str], str]) -> list[str]:
    """What is shown of a column's values, which are of one type; equal ones are made once."""
    name, _, form = column
    values: list[Any] = [row.get(name) for row in rows]
    texts = {value: escaped(value_text(value, form)) for value in set(values)}
    return [texts[value] for value in values]


def _lined(rows: Sequence[Row], columns: Sequence[Shown], coloured: bool = False) -> str:
    """The columns under their headings."""
    headings = [heading for _, heading, _ in columns]
    cells = zip(*(_texts(rows, one, str) for one in columns), strict=True)
    numeric = [form != "{}" or name == "opset" for name, _, form in columns]
    return table(headings, cells, numeric, styles=[*map(_style, rows)] if coloured else ())


def _style(row: Row) -> str:
    """The style of a cell's row, if it has one."""
    if row["status"] == "failed":
        return "bad"
    if row.get("stable") is False:
        return "doubtful"
    rank: Any = row.get("rank")
    return "best" if rank is not None and str(rank).rstrip("=") == "1" else ""


def _reasons(rows: Sequence[Row]) -> list[str]:
    """Why cells failed, were skipped or were not run: each reason once, with the number of its
    cells."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["status"] == "failed":
            what = f"failed at {row['failed_stage']}", row["reason"]
            by_reason.setdefault(what, []).append(row["cell"])
        elif row["status"] == "skipped":
            by_reason.setdefault(("skipped", row["reason"]), []).append(row["cell"])
        elif row["status"] == "pending" and ": " in row["reason"]:
            by_reason.setdefault(("pending", row["reason"]), []).append(row["cell"])
    lines = [""] if by_reason else []
    for (how, reason), cells in by_reason.items():
        more = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
        lines.append(plain(f"{how}: {cells[0]}{more}"))
        lines += [f"  {line}" for line in plain_lines(reason)]
    return lines


def _origins(rows: Sequence[Row]) -> list[str]:
    """What the values of the column "from" mean."""
    found = sorted({row["origin"] for row in rows} - {HERE})
    lines = [""] if found else []
    for origin in found:
        digest, _, name = origin.partition(" ")
        lines.append(
            plain(f"from {digest[:4]}: imported ({name}); measured on another machine and")
        )
        lines.append("  not checked here; the engines are on that machine")
    return lines
