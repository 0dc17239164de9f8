"""Halving: from a value that differs, to the first node that makes it differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farm.bisect.differences import Difference

if TYPE_CHECKING:
    from farm.bisect.graphs import Graph

Probe = Callable[[Sequence[str]], Mapping[str, Difference]]
"""Runs both sides, and returns how far the values are apart; those that a side does not have, or
cannot give, are left out."""

Room = Callable[[Sequence[str], int], list[str]]
"""Chooses so many of some values, or fewer: as many as the memory for them allows."""

MOST = 12
"""How many values are read out at once: a pass divides what is left by so many."""


@dataclass(frozen=True)
class Found:
    """The first value that leaves the tolerance.

    difference: of the value. inputs: the values that it is computed from, all within the tolerance.
    between: values on the way that could not be compared, so that the fault may be in their nodes.
    hidden: those among them that make the difference vanish when they are read out.
    """

    value: str
    difference: Difference
    inputs: Mapping[str, Difference]
    between: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()


class Search:
    """The search in one graph, by one way to compare both sides.

    passes: how often both sides have run. compared: how many values.
    """

    def __init__(self, graph: Graph, probe: Probe, room: Room, tolerance: float) -> None:
        self._graph, self._room, self._tolerance = graph, room, tolerance
        self._run = probe
        self._within = dict[str, Difference]()
        self._passed_over, self._hidden = set[str](), set[str]()
        self.passes, self.compared = 0, 0

    def probe(self, values: Sequence[str]) -> Mapping[str, Difference]:
        """Compare values, in one pass."""
        self.passes += 1
        self.compared += len(values)
        return self._run(values)

    def forget(self, values: Sequence[str]) -> None:
        """Forget what depends on given values, since they have changed."""
        self._hidden.clear()
        self._passed_over.clear()
        behind = {name for value in values for name in self._graph.behind(value, ())}
        self._within = {name: one for name, one in self._within.items() if name in behind}

    def given(self, values: Sequence[str]) -> None:
        """Take values for equal: both sides have been given them."""
        self._within |= {value: Difference(0.0, "is given") for value in values}

    def first(self, value: str, found: Difference) -> Found:
        """Return the first value that leaves the tolerance, of those behind one that does."""
        most = MOST
        while True:
            behind = self._graph.behind(value, self._within)
            unknown = [name for name in behind if name not in self._passed_over]
            if not unknown:
                return self._found(value, found, behind)
            chosen = self._room(unknown, most)
            differences = self.probe([*chosen, value])
            now = differences.get(value)
            if now is not None and now.relative <= self._tolerance:
                most = self._vanished(chosen)
                continue
            self._passed_over.update(name for name in chosen if name not in differences)
            beyond = [name for name in chosen if self._leaves(differences.get(name))]
            self._within |= {
                name: one for name, one in differences.items() if not self._leaves(one)
            }
            if beyond:
                value, found, most = beyond[0], differences[beyond[0]], MOST
            elif now is not None:
                found = now

    def _vanished(self, chosen: Sequence[str]) -> int:
        """The difference is gone while these are read out: a runtime computes otherwise then, for
        instance without a fusion. Fewer are read out next; one alone is passed over."""
        if len(chosen) == 1:
            self._hidden.update(chosen)
            self._passed_over.update(chosen)
        return max(len(chosen) // 2, 1)

    def _leaves(self, one: Difference | None) -> bool:
        return one is not None and one.relative > self._tolerance

    def _found(self, value: str, found: Difference, behind: Sequence[str]) -> Found:
        border = self._graph.border(value, self._within)
        inputs = {name: self._within[name] for name in border}
        hidden = tuple(name for name in behind if name in self._hidden)
        return Found(value, found, inputs, tuple(behind), hidden)
