"""What an engine must satisfy to be picked, each constraint by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from farm.results.conditions import Condition

if TYPE_CHECKING:
    from farm.results.columns import Row

OBJECTIVES = ("latency", "throughput", "ap")

DEFAULT_MAX_AP_DROP = 0.5
"""In points of 100, as published tables state AP."""


class Constraint(Protocol):
    """One thing that an engine must satisfy. `Condition` is one, too."""

    @property
    def text(self) -> str:
        """The option that asks for it."""

    def met(self, row: Row) -> bool:
        """Return whether a cell satisfies it."""

    def reason(self, row: Row) -> str:
        """Return why a cell does not."""

    def missed_by(self, row: Row) -> float | None:
        """Return by how much a cell misses it, 0 or more; None if that is no matter of degree."""

    def miss(self, row: Row) -> str:
        """Return what a cell has, and by how much it misses it."""


@dataclass(frozen=True)
class DropLimit:
    """The AP that may be lost against PyTorch, box and mask.

    most: in points of 100; 0.2 is 0.002 on the 0..1 scale. confident: the upper end of the
    interval of the drop counts, and one that is not known does not meet it.
    """

    most: float
    confident: bool = False

    @property
    def text(self) -> str:
        """The option that asks for it."""
        bound = f"--max-ap-drop {self.most:g}"
        return f"--confident with {bound}" if self.confident else bound

    def met(self, row: Row) -> bool:
        """Return whether neither box AP nor mask AP loses more."""
        return not self._too_much(row)

    def reason(self, row: Row) -> str:
        """Return which AP loses how much more."""
        kind = self._too_much(row)[0]
        points = self._points(row, kind)
        if points is None:
            return f"has no known interval of its {kind} AP drop (run its sweep again)"
        return f"{self._loss(row, kind)}, at most {self.most:g}"

    def doubt(self, row: Row) -> str:
        """Return why the images do not show that a cell meets it; '' if they do, or without an
        interval."""
        if not self.confident or not self.missed_by(row):
            return ""
        return self._loss(row, self._too_much(row)[0])

    def miss(self, row: Row) -> str:
        """Return which AP loses how much, and by how much that is too much."""
        kind = self._too_much(row)[0]
        points = self._points(row, kind)
        if points is None:
            return self.reason(row)
        return f"{self._loss(row, kind)}, {points - self.most:.2f} points over"

    def _loss(self, row: Row, kind: str) -> str:
        drop = row.get(f"{kind}_ap_drop")
        if not self.confident:
            return f"loses {_as_points(drop)} points of {kind} AP"
        low, high = (_as_points(row.get(f"{kind}_ap_drop_{end}")) for end in ("low", "high"))
        said = f"loses {low} to {high} points of {kind} AP (95 % interval)"
        if drop is None or self._is_over(drop * 100):
            return said
        images = row.get("evaluate_images")
        many = "its images are" if images is None else f"{images} images are"
        return f"{said}: {many} too few to tell whether it keeps to {self.most:g}"

    def missed_by(self, row: Row) -> float | None:
        """Return the largest excess in points; None if it is not known."""
        found = [self._points(row, kind) for kind in self._too_much(row)]
        known = [points - self.most for points in found if points is not None]
        return max(known) if known and len(known) == len(found) else None

    def _too_much(self, row: Row) -> list[str]:
        """Box and mask, as far as they lose too much."""
        found = []
        for kind in ("box", "mask"):
            points = self._points(row, kind)
            unknown = points is None and self.confident and row[f"{kind}_ap"] is not None
            if unknown or (points is not None and self._is_over(points)):
                found.append(kind)
        return found

    def _is_over(self, points: float) -> bool:
        # A drop is a difference of decimal fractions: 0.005 may be a little more.
        return points > self.most + 1e-9

    def _points(self, row: Row, kind: str) -> float | None:
        drop: float | None = row.get(f"{kind}_ap_drop{'_high' if self.confident else ''}")
        return None if drop is None else drop * 100


def _as_points(drop: float | None) -> str:
    return "-" if drop is None else f"{drop * 100:.2f}"


@dataclass(frozen=True)
class Criteria:
    """The objective of a pick, and what an engine must satisfy.

    max_ap_drop: in points of 100; confident: also by the upper end of the drop's 95 % interval.
    min_ap: of boxes, from 0 to 1. where: further conditions. postprocess: only engines whose graph
    ends there; those of `none` have no AP. devices: those of this machine; imported figures of
    these are not picked, since the cell can be run here.
    """

    objective: str = "latency"
    max_ap_drop: float = DEFAULT_MAX_AP_DROP
    confident: bool = False
    min_ap: float | None = None
    max_latency_ms: float | None = None
    where: tuple[Condition, ...] = ()
    postprocess: str | None = None
    devices: frozenset[str] = frozenset()

    def constraints(self) -> list[Constraint]:
        """Return what an engine must satisfy, each constraint by itself."""
        found: list[Constraint] = []
        if self.postprocess is not None:
            text = f"--postprocess {self.postprocess}"
            found.append(Condition("postprocess", "=", self.postprocess, text))
        found += [*self.where, DropLimit(self.max_ap_drop)]
        if self.confident:
            found.append(DropLimit(self.max_ap_drop, confident=True))
        if self.min_ap is not None:
            text = f"--min-ap {self.min_ap:g}"
            found.append(Condition("box_ap", ">=", self.min_ap, text, "has box AP"))
        if self.max_latency_ms is not None:
            text = f"--max-latency-ms {self.max_latency_ms:g}"
            found.append(Condition("latency_p50_ms", "<=", self.max_latency_ms, text, "takes"))
        return found

    def unusable(self, row: Row) -> str | None:
        """Return why a cell cannot be judged by the constraints; None if it can."""
        if row["status"] != "ok":
            return f"{row['status']}: {row['reason']}"
        if row["latency_p50_ms"] is None:
            return "not measured"
        if row["box_ap"] is None and (self.postprocess != "none" or self.objective == "ap"):
            if row["postprocess"] == "none":
                return "raw outputs have no AP; --postprocess none selects them"
            if row.get("stopped_early"):
                lows = {kind: row.get(f"{kind}_ap_drop_low") or 0.0 for kind in ("box", "mask")}
                kind = max(lows, key=lambda one: lows[one])
                lost = f"{_as_points(lows[kind])} points of {kind} AP"
                return f"stopped early: {lost} or more lost for sure"
            return "its AP is unknown"
        return None
