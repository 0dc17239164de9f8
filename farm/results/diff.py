"""Compare two selections of the leaderboard: rows become pairs, and pairs have verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from farm.errors import InputError, nearest
from farm.parsing import parse_bytes
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

LEAST_AP = 0.1
"""AP points of 100 up to which two engines are the same: the last digit of published tables."""

_CONDITIONS = {
    "device": "device",
    "threads": "threads",
    "batch": "batch",
    "input_shape": "input shape",
    "prepare_key": "prepared images",
}
"""Columns in which two rows must be alike for their figures to be of the same work."""


class Verdict(str, Enum):
    """What B is, compared with A."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "same"
    BROKE = "broke"
    MENDED = "mended"
    APPEARED = "appeared"
    VANISHED = "vanished"

    __str__ = str.__str__  # the value; Python 3.12 would otherwise format the member's name


@dataclass(frozen=True)
class Selection:
    """Rows that have these values, by axis. text: as its user wrote it. earlier: as they were
    before their cells were run again."""

    text: str
    values: Mapping[str, str]
    earlier: bool = False


_NOT_RUN = ("pending", "skipped")
"""Statuses of cells that have no figures, and did not fail."""


@dataclass(frozen=True)
class Bounds:
    """How much worse B may be. max_ap_drop: AP points of 100. max_slowdown: percent of A's p50."""

    max_ap_drop: float | None = None
    max_slowdown: float | None = None


@dataclass(frozen=True)
class Pair:
    """The rows of one cell in A and in B; None where there is none. axes: what matches them."""

    axes: Mapping[str, str]
    a: Row | None
    b: Row | None

    @property
    def verdict(self) -> Verdict:
        """What B is; one that is worse in anything is worse. Rows that have not run are absent."""
        a, b = (None if one in _NOT_RUN else one for one in self.value("status"))
        if (a, b) != ("ok", "ok"):
            return _of_statuses(a, b)
        gains = [self.ap_gain(kind) or 0.0 for kind in ("box", "mask")]
        gains = [gain for gain in gains if abs(gain) > LEAST_AP + 1e-9]
        if self.latency_ratio and self.is_beyond_noise:
            gains.append(1 - self.latency_ratio)
        if not gains:
            return Verdict.SAME
        return Verdict.WORSE if min(gains) < 0 else Verdict.BETTER

    @property
    def latency_ratio(self) -> float | None:
        """B's median latency over A's; None where one is unknown."""
        a, b = self.value("latency_p50_ms")
        return b / a if a and b else None

    @property
    def is_beyond_noise(self) -> bool | None:
        """Whether the median latencies differ by more than noise can explain; None if unknown.

        Either may be off by a factor of 1 + 2 x its samples' coefficient of variation. More samples
        do not narrow that: two runs of one engine differ by more than the samples of a run say.
        """
        a, b = self.value("latency_cov")
        ratio = self.latency_ratio
        if ratio is None or a is None or b is None:
            return None
        return bool(max(ratio, 1 / ratio) > (1 + 2 * a) * (1 + 2 * b))

    @property
    def unlike(self) -> tuple[str, ...]:
        """The conditions that differ, so that figures may differ for their sake."""
        both = {name: self.value(column) for column, name in _CONDITIONS.items()}
        return tuple(name for name, (a, b) in both.items() if None not in (a, b) and a != b)

    def ap_gain(self, kind: str) -> float | None:
        """Return B's AP minus A's in points of 100, or None. kind: `box` or `mask`."""
        a, b = self.value(f"{kind}_ap")
        return None if a is None or b is None else 100 * (b - a)

    def value(self, column: str) -> tuple[Any, Any]:
        """Return the values of a column in A and in B; None where there is none."""
        return (self.a or {}).get(column), (self.b or {}).get(column)

    def exceeds(self, bounds: Bounds) -> tuple[str, ...]:
        """Return in what B is worse than the bounds allow; a figure that only A has is."""
        if self.value("status") != ("ok", "ok"):
            return ()
        found = []
        for kind in ("box", "mask") if bounds.max_ap_drop is not None else ():
            gain, known = self.ap_gain(kind), self.value(f"{kind}_ap")[0] is not None
            if known and (gain is None or -gain > (bounds.max_ap_drop or 0) + 1e-9):
                found.append(f"{kind} AP")
        if bounds.max_slowdown is not None and self.value("latency_p50_ms")[0] is not None:
            ratio = self.latency_ratio
            slower = ratio is None or 100 * (ratio - 1) > bounds.max_slowdown + 1e-9
            if slower and self.is_beyond_noise is not False:
                found.append("latency")
        return tuple(found)


def _of_statuses(a: str | None, b: str | None) -> Verdict:
    """The verdict where A and B are not both `ok`."""
    if a is None or b is None:
        return Verdict.SAME if a == b else Verdict.APPEARED if a is None else Verdict.VANISHED
    return Verdict.SAME if a == b else Verdict.BROKE if a == "ok" else Verdict.MENDED


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
