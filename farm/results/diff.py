"""What B is, compared with A: pairs of rows of the leaderboard, and their verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from farm.results.columns import Row

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
