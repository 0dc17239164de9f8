"""Find the node at which an engine leaves the reference, beyond decisions between equals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farm.bisect import sides
from farm.bisect.alone import DECISIONS, Alone
from farm.bisect.differences import Array, Difference
from farm.bisect.search import Found, Search

if TYPE_CHECKING:
    from farm.bisect.graphs import Graph
    from farm.bisect.sides import Side

Reads = Callable[[Sequence[str]], Iterable[str]]
"""What is read out of the engine for some values."""

_ELEMENT = 4
"""The bytes of an element: nearly all are float32."""

_MOST_GIVEN = 64
"""How many decisions are given to both sides before the search ends with the last one."""


@dataclass(frozen=True)
class Worst:
    """The value that is most off by itself, given the engine's own inputs."""

    value: str
    difference: Difference


@dataclass(frozen=True)
class Located:
    """What a search found. found: None where nothing leaves the tolerance.

    own: how far the node is off by itself, given the engine's own inputs; None where that cannot
    be told. worst: the value before it that is most off by itself, where the node is within the
    tolerance by itself.
    given: nodes that decided otherwise between nearly equal values, whose results both sides were
    then given. passes, compared: how often both sides ran, and how many values were compared.
    most_bytes: of one pass, on each side.
    """

    found: Found | None
    own: Difference | None
    worst: Worst | None
    given: tuple[str, ...]
    passes: int
    compared: int
    most_bytes: int


class Locate:
    """The search in one file.

    shapes: of the values. memory: how many bytes of values one pass may read out, on each side.
    own: None for sides of which one does not run the file's nodes.
    """

    def __init__(
        self,
        graph: Graph,
        reference: Side,
        engine: Side,
        shapes: Mapping[str, Sequence[int]],
        tolerance: float,
        memory: int,
        own: Alone | None = None,
    ) -> None:
        self._graph, self._reference, self._engine = graph, reference, engine
        self._tolerance, self._memory = tolerance, memory
        self._alone = own
        self._bytes = {name: _ELEMENT * math.prod(shape) for name, shape in shapes.items()}
        self._pins = dict[str, Array]()
        self._most_bytes = 0
        self._search = Search(graph, self._probe, self._room, tolerance)

    def run(self, outputs: Sequence[str], explain: bool) -> Located:
        """Return where these outputs leave the tolerance; if they do not, where any value does.

        explain: the outputs are known to differ, so that where differences grow is of use.

        Raises:
            StepFailed: one of the sides cannot run.
        """
        given: list[str] = []
        while (wrong := self._wrong_output(outputs) or self._wrong_value()) is not None:
            found = self._search.first(*wrong)
            own = self._own(found.value)
            if not self._decides(found, own) or len(given) == _MOST_GIVEN:
                return self._located(found, own, self._worst_before(found, own), given)
            given.append(self._graph.node(found.value).name)
            self._give(found.value)
        worst = self._worst(self._graph.values) if explain else None
        return self._located(None, None, worst, given)

    def _wrong_output(self, outputs: Sequence[str]) -> tuple[str, Difference] | None:
        waiting = [name for name in outputs if name not in self._pins]
        return self._wrong(self._search.probe(waiting)) if waiting else None

    def _wrong_value(self) -> tuple[str, Difference] | None:
        return self._wrong(self._compared(self._graph.values))

    def _wrong(self, found: Mapping[str, Difference]) -> tuple[str, Difference] | None:
        """The first value beyond the tolerance, in the graph's order."""
        beyond = {name for name, one in found.items() if one.relative > self._tolerance}
        first = next((name for name in self._graph.values if name in beyond), None)
        return None if first is None else (first, found[first])

    def _compared(self, values: Sequence[str]) -> dict[str, Difference]:
        """Compare values in as many passes as the memory needs."""
        known: dict[str, Difference] = {}
        waiting = [name for name in values if name not in self._pins]
        while waiting:
            chosen = self._first_ones(waiting, list)
            known |= self._search.probe(chosen)
            waiting = waiting[len(chosen) :]
        return known

    def _decides(self, found: Found, own: Difference | None) -> bool:
        """Whether the node only decides otherwise, as it must by its own inputs."""
        node = self._graph.node(found.value)
        right = own is not None and own.relative <= self._tolerance
        return right and node.op_type in DECISIONS

    def _give(self, value: str) -> None:
        names = [name for name in self._graph.node(value).output if name]
        self._pins |= self._reference.values(names, self._pins)
        self._search.forget(names)
        self._search.given(names)

    def _located(
        self, found: Found | None, own: Difference | None, worst: Worst | None, given: Sequence[str]
    ) -> Located:
        search = self._search
        counts = search.passes, search.compared, self._most_bytes
        return Located(found, own, worst, tuple(given), *counts)

    def _own(self, value: str) -> Difference | None:
        if self._alone is None:
            return None
        return self._alone.differences([value], self._pins).get(value)

    def _worst_before(self, found: Found, own: Difference | None) -> Worst | None:
        """The worst value on the way to a node that is right by itself."""
        if own is None or own.relative > self._tolerance:
            return None
        return self._worst(self._graph.behind(found.value, ()))

    def _worst(self, values: Sequence[str]) -> Worst | None:
        """Look at nodes by themselves, in as many passes as the memory needs."""
        worst: Worst | None = None
        waiting = [name for name in values if name not in self._pins]
        alone, pins = self._alone, self._pins
        while waiting and alone is not None:
            chosen = self._first_ones(waiting, lambda values: alone.reads(values, pins))
            self._note(alone.reads(chosen, pins))
            for value, one in alone.differences(chosen, pins).items():
                if math.isfinite(one.relative) and (
                    worst is None or one.relative > worst.difference.relative
                ):
                    worst = Worst(value, one)
            waiting = waiting[len(chosen) :]
        return worst

    def _probe(self, values: Sequence[str]) -> dict[str, Difference]:
        self._note(values)
        return sides.differences(self._reference, self._engine, values, self._pins)

    def _note(self, values: Iterable[str]) -> None:
        size = sum(self._bytes.get(name, 0) for name in values)
        self._most_bytes = max(self._most_bytes, size)

    def _room(self, values: Sequence[str], most: int) -> list[str]:
        """Return so many of the values, evenly spread over them, or fewer: as many as fit into the
        memory, and at least one."""
        for count in range(min(most, len(values)), 1, -1):
            chosen = _spread(values, count)
            if sum(self._bytes[name] for name in chosen) <= self._memory:
                return chosen
        return [values[len(values) // 2]]

    def _first_ones(self, values: Sequence[str], reads: Reads) -> list[str]:
        """Return the first values for which what is read out fits into the memory, at least one."""
        read, size = set[str](), 0
        for count, value in enumerate(values):
            more = {*reads([value])} - read
            read |= more
            size += sum(self._bytes.get(name, 0) for name in more)
            if size > self._memory and count:
                return list(values[:count])
        return list(values)


def _spread(values: Sequence[str], count: int) -> list[str]:
    """Evenly spaced values, of which neither the first nor the last need be one."""
    return [values[(2 * i + 1) * len(values) // (2 * count)] for i in range(count)]
