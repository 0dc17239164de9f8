"""The heights and widths that a model takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LEAST = 32
"""The smallest height or width that a matrix may have."""


@dataclass(frozen=True)
class Sizes:
    """Heights and widths from `least` on whose remainder by `multiple` is one of `remainders`."""

    multiple: int = 1
    remainders: tuple[int, ...] = (0,)
    least: int = LEAST

    def fit(self, *extents: int) -> bool:
        return all(
            extent >= self.least and extent % self.multiple in self.remainders for extent in extents
        )

    def nearest(self, *extents: int) -> list[tuple[int, ...]]:
        """Return the nearest sizes that fit: none larger than `extents`, and none smaller."""
        below = tuple(self._first(extent, range(extent, 0, -1)) for extent in extents)
        above = tuple(
            self._first(extent, range(extent, max(extent, self.least) + self.multiple))
            for extent in extents
        )
        return [sizes for sizes in (below, above) if all(sizes)]

    def _first(self, extent: int, others: Iterable[int]) -> int:
        """The extent itself where it fits; else the first of `others` that does, 0 for none.

        A whole multiple is preferred to what the network only takes because it rounds up.
        """
        if self.fit(extent):
            return extent
        wanted = Sizes(self.multiple, (0,) if 0 in self.remainders else self.remainders, self.least)
        return next((one for one in others if wanted.fit(one)), 0)

    def __str__(self) -> str:
        if self.multiple == 1:
            return f"those from {self.least} on"
        least = f", from {self.least} on" if self.least > LEAST else ""
        if self.remainders == (0,):
            return f"multiples of {self.multiple}{least}"
        if self.remainders == (self.multiple - 1,):
            return f"one less than multiples of {self.multiple}{least}"
        *most, last = (str(remainder) for remainder in self.remainders if remainder)
        listed = f"{', '.join(most)} or {last}" if most else last
        whole = "multiples of {0}, or of {0}" if 0 in self.remainders else "multiples of {0}"
        return f"{whole.format(self.multiple)} and {listed} more{least}"
