"""Why no engine meets the criteria: which constraint is in the way, and by how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farm.errors import nearest
from farm.results.conditions import Condition
from farm.terminal import plain

if TYPE_CHECKING:
    from farm.results.columns import Row
    from farm.results.picking.criteria import Constraint


@dataclass(frozen=True)
class Obstacle:
    """A constraint that cells do not meet.

    constraint: the option that states it. missed: how many of the usable cells miss it. cell: the
    one that misses it least, of those that meet all others if there are any. reason: what that one
    has, and by how much it misses. missed_by: the same as a number, in the unit of the column (of
    AP drops in points of 100); None where that is no matter of degree. left: how many engines would
    be left without this constraint alone.
    """

    constraint: str
    missed: int
    cell: str
    reason: str
    missed_by: float | None
    left: int


def obstacles(rows: Sequence[Row], constraints: Sequence[Constraint]) -> list[Obstacle]:
    """Return the constraints that cells miss, those first without which engines would be left.

    rows: the cells that can be judged, of which none meets all constraints.
    """
    found = []
    for one in constraints:
        missing = [row for row in rows if not one.met(row)]
        if not missing:
            continue
        others = [other for other in constraints if other is not one]
        alone = [row for row in missing if all(other.met(row) for other in others)]
        found.append(_obstacle(one, missing, alone, len(missing) == len(rows)))
    return sorted(found, key=lambda one: -one.left)


def _obstacle(
    constraint: Constraint, missing: Sequence[Row], alone: Sequence[Row], none: bool
) -> Obstacle:
    """none: whether all cells miss it."""
    near = min(alone or missing, key=lambda row: _distance(constraint, row))
    reason = (
        none and _values(constraint, missing)
    ) or f"{_nearest(constraint)} {constraint.miss(near)}"
    by = constraint.missed_by(near)
    return Obstacle(constraint.text, len(missing), near["cell"], reason, by, len(alone))


def _distance(constraint: Constraint, row: Row) -> tuple[float, float]:
    by = constraint.missed_by(row)
    return (float("inf") if by is None else by, row["latency_p50_ms"] or float("inf"))


def _nearest(constraint: Constraint) -> str:
    """How the cell is called that misses it least."""
    named = {"latency_p50_ms": "the fastest", "box_ap": "the most accurate"}
    column = constraint.column if isinstance(constraint, Condition) else ""
    return named.get(column, "the nearest")


def _values(constraint: Constraint, missing: Sequence[Row]) -> str:
    """What there is of a column of which a certain value is asked for; '' of other constraints."""
    if not isinstance(constraint, Condition) or constraint.operator != "=":
        return ""
    found = {str(row.get(constraint.column)) for row in missing} - {"None"}
    if not found or not isinstance(constraint.value, str | int):
        return ""
    return plain(
        f"no {constraint.column} {constraint.value!r}{nearest(str(constraint.value), found)}"
    )
