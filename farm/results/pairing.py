"""Select rows of the leaderboard, and match those of two selections by the axes left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farm.errors import InputError, nearest
from farm.parsing import parse_bytes
from farm.results.diff import Pair
from farm.units import format_bytes

if TYPE_CHECKING:
    from farm.results.columns import Row

AXES = {
    "sweep": "sweep",
    "model": "model",
    "opset": "opset",
    "shape": "shape",
    "postprocess": "postprocess",
    "precision": "precision",
    "runtime": "runtime",
    "workspace": "workspace_bytes",
    "target": "target",
}
"""What rows are selected and matched by, and its column."""

EARLIER = "earlier"
"""What selects the figures of before, as `farm diff demo,earlier demo`."""


@dataclass(frozen=True)
class Selection:
    """Rows that have these values, by axis. text: as its user wrote it. earlier: as they were
    before their cells were run again."""

    text: str
    values: Mapping[str, str]
    earlier: bool


def parse(text: str) -> Selection:
    """Read `axis=value,axis=value`; a value alone is the name of a sweep, `earlier` alone the run
    before the last one.

    Raises:
        InputError: it names no axis, or an axis twice.
    """
    values: dict[str, str] = {}
    earlier = False
    for part in text.split(","):
        if part.strip() == EARLIER:
            earlier = True
            continue
        words = part if "=" in part else f"sweep={part}"
        axis, _, value = (word.strip() for word in words.partition("="))
        if axis not in AXES:
            raise InputError(f"no axis {axis!r}{nearest(axis, AXES)}", text)
        if axis in values:
            raise InputError(f"{axis} is selected twice; give one value of each axis", text)
        values[axis] = _size(value) if axis == "workspace" else value
    return Selection(text, values, earlier)


def select(rows: Sequence[Row], selection: Selection) -> list[Row]:
    """Return the rows that have the selection's values.

    Raises:
        InputError: there is none.
    """
    for axis, value in selection.values.items():
        known = {_text(row, axis) for row in rows}
        if value not in known:
            raise InputError(f"no {axis} {value!r}{nearest(value, known - {'-'})}", selection.text)
    wanted = selection.values.items()
    found = [row for row in rows if all(_text(row, axis) == value for axis, value in wanted)]
    if not found:
        raise InputError("no cell has all of these values", selection.text)
    return found


def pairs(
    rows: Sequence[Row], a: Selection, b: Selection, before: Sequence[Row] = ()
) -> list[Pair]:
    """Match the rows of A with those of B by all axes but those that A or B select by.

    before: the rows as they were, for a selection that is `earlier`.

    Raises:
        InputError: A or B selects no row, or several rows of the same cell.
    """
    matched = [axis for axis in AXES if axis not in {*a.values, *b.values}]
    selected = [(select(before if one.earlier else rows, one), one) for one in (a, b)]
    of_a, of_b = (_by_cell(own, matched, one) for own, one in selected)
    return [
        Pair(dict(zip(matched, key, strict=True)), of_a.get(key), of_b.get(key))
        for key in {**of_a, **of_b}
    ]


def _by_cell(
    rows: Sequence[Row], matched: Sequence[str], selection: Selection
) -> dict[tuple[str, ...], Row]:
    keys = [tuple(_matching(row, axis) for axis in matched) for row in rows]
    (key, count), *_ = Counter(keys).most_common(1)
    if count > 1:
        alike = [row for row, own in zip(rows, keys, strict=True) if own == key]
        differ = [axis for axis in AXES if len({_text(row, axis) for row in alike}) > 1]
        advice = f"select by {' or '.join(differ)}, too" if differ else "run its sweep again"
        raise InputError(
            f"it selects {count} rows to compare as one (first {alike[0]['cell']}); {advice}",
            selection.text,
        )
    return dict(zip(keys, rows, strict=True))


def _matching(row: Row, axis: str) -> str:
    """The value to match by. The opset of a ready file is no axis: it is known after `export`."""
    own = _text(row, axis)
    return own if axis != "opset" or f".op{own}." in row["cell"] else "-"


def _text(row: Row, axis: str) -> str:
    """The value of an axis as people write it; `-` where its runtime does not have the axis."""
    value = row[AXES[axis]]
    if value is None:
        return "-"
    return format_bytes(value) if axis == "workspace" else str(value)


def _size(text: str) -> str:
    try:
        return format_bytes(parse_bytes(text))
    except ValueError:
        return text
