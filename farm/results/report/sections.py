"""What a page says of each target: picks, plot, table, failures, pictures, how it was measured."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from farm.results.columns import COLUMNS
from farm.results.names import outer
from farm.results.picking.criteria import Criteria
from farm.results.picking.select import picks
from farm.results.report.conditions import Condition, conditions
from farm.results.report.failures import Failure, failures
from farm.results.report.points import AXES, axes_of, axis_text, front_of, points, shown
from farm.results.tables.column_choice import shown_columns
from farm.results.tables.marks import legend, marked
from farm.results.tables.render import sort_rows
from farm.results.tables.values import value_text
from farm.terminal import plain

if TYPE_CHECKING:
    from farm.results.columns import Row
    from farm.results.report.disagreements import Disagreement
    from farm.store import Store


@dataclass(frozen=True)
class Heading:
    """A column of the table. numeric: aligned to the right."""

    name: str
    text: str
    unit: str
    numeric: bool


@dataclass(frozen=True)
class Line:
    """A row of the table. texts: of its columns, as `farm leaderboard` shows them. command: what
    runs the cell again."""

    cell: str
    status: str
    texts: tuple[str, ...]
    command: str
    on_front: bool = False


@dataclass(frozen=True)
class Choice:
    """What `farm best` picks of a model by its defaults. cell: '' where none may be shipped."""

    model: str
    cell: str
    ap: str
    drop: str
    latency: str
    why: str


@dataclass(frozen=True)
class Section:
    """A target's part of the page. rows: in the order of the lines. others: sweeps that have this
    target and are not shown."""

    target: str
    device: str
    sweeps: tuple[str, ...]
    others: tuple[str, ...]
    counts: dict[str, int]
    rows: tuple[Row, ...]
    headings: tuple[Heading, ...]
    lines: tuple[Line, ...]
    legend: tuple[str, ...]
    choices: tuple[Choice, ...]
    failures: tuple[Failure, ...]
    conditions: tuple[Condition, ...]
    disagreements: tuple[Disagreement, ...] = field(default=())

    @property
    def axes(self) -> list[str]:
        """The axes in which its cells differ."""
        return axes_of(self.rows)

    @property
    def data(self) -> dict[str, Any]:
        """What the page's script needs: points of the plot, values of filters, sorting, details."""
        kinds = [kind for kind in ("box", "mask") if any(shown(row, kind) for row in self.rows)]
        details = [
            name for name in _details() if any(row.get(name) is not None for row in self.rows)
        ]
        return {
            "axes": self.axes,
            "kinds": {kind: points(self.rows, kind) for kind in kinds},
            "filters": {
                name: [axis_text(row.get(name)) for row in self.rows]
                for name in (*self.axes, "status")
            },
            "columns": [outer(name) for name in details],
            "units": [COLUMNS[name].unit if name in COLUMNS else "" for name in details],
            "values": [[_value(row.get(name)) for name in details] for row in self.rows],
        }


def section(
    rows: Sequence[Row],
    store: Store,
    place: str | None,
    others: Sequence[str] = (),
    disagreements: Sequence[Disagreement] = (),
) -> Section:
    """Return the section of one target.

    rows: its cells. place: `--results` of the commands; None for the default. others: sweeps that
    are not shown.
    """
    rows = sort_rows(rows)
    as_shown = marked(rows)
    columns = shown_columns(as_shown)
    front = set(front_of(rows))
    return Section(
        target=plain(rows[0]["target"]),
        device=plain(next((row["device"] for row in rows if row["device"]), "")),
        sweeps=tuple(sorted({plain(row["sweep"]) for row in rows})),
        others=tuple(map(plain, others)),
        counts=_counts(rows),
        rows=tuple(rows),
        headings=tuple(
            Heading(outer(name), text, COLUMNS[name].unit, form != "{}" or name == "opset")
            for name, text, form in columns
        ),
        lines=tuple(
            Line(
                plain(row["cell"]),
                row["status"],
                tuple(value_text(row.get(name), form) for name, _, form in columns),
                _command(row, place),
                index in front,
            )
            for index, row in enumerate(as_shown)
        ),
        legend=tuple(line for line in legend(as_shown) if line),
        choices=tuple(_choices(rows)),
        failures=tuple(failures(rows, store)),
        conditions=tuple(conditions(rows)),
        disagreements=tuple(disagreements),
    )


def _counts(rows: Sequence[Row]) -> dict[str, int]:
    statuses = [row["status"] for row in rows]
    return {status: statuses.count(status) for status in dict.fromkeys(statuses)}


def _command(row: Row, place: str | None) -> str:
    words = ["farm", "reproduce", plain(row["cell"]), "--sweep", plain(row["sweep"])]
    return shlex.join([*words, *(["--results", plain(place)] if place else [])])


def _choices(rows: Sequence[Row]) -> list[Choice]:
    """The picks of the farm's default criteria, by model."""
    found = []
    for (_, model), pick in picks(rows, Criteria()).items():
        best = pick.best or {}
        ap, drop, latency = (
            value_text(best.get(name), COLUMNS[name].form)
            for name in ("box_ap", "box_ap_drop", "latency_p50_ms")
        )
        cell = plain(best.get("cell", ""))
        found.append(Choice(plain(model), cell, ap, drop, latency, plain(pick.why)))
    return found


def _details() -> list[str]:
    """The columns of a cell's details: all but keys and AP by class, which are long."""
    left_out = ("cell", "target", "device")
    return [
        name
        for name in dict.fromkeys((*AXES, *COLUMNS))
        if name not in left_out and not name.endswith(("_key", "_by_class"))
    ]


def _value(value: Any) -> Any:
    if isinstance(value, str):
        return plain(value, "\n")
    return float(f"{value:.6g}") if isinstance(value, float) else value
