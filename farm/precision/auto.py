"""Which layers int8 harms most, and which of them must stay in fp32."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from farm.precision.region import WEIGHTED, data_inputs, network
from farm.precision.typed import reads_outside

Values = Mapping[str, npt.NDArray[np.float32]]


EVALUATIONS = 16
"""How many choices of layers a search judges at most."""


@dataclass(frozen=True)
class Candidate:
    """A choice of layers that stay in fp32, as it was judged.

    kept: how many stay. ap_drop: the AP lost on the held-out images; ap_drop_high: the upper end of
    its interval; both in points of 100.
    """

    kept: int
    ap_drop: float
    ap_drop_high: float


Judge = Callable[[Sequence[str]], Candidate]


def search(
    layers: Collection[str], rank: Callable[[], Sequence[str]], judge: Judge, bound: float
) -> tuple[list[str], list[Candidate]]:
    """Find few layers to keep in fp32, so that the interval of what is lost ends within `bound`.

    rank: returns the layers, most harmful first; called only if some must be kept. judge: measures
    what is lost when the given layers are kept; called at most EVALUATIONS times, never twice for
    the same layers. Returns the layers to keep, and all candidates in the order of their trial.

    Keeping more layers can lose more AP, so nothing is concluded from one candidate about another,
    and the smallest that was accepted is returned: the count of the most harmful layers is doubled
    until they are accepted, smaller counts since the last refusal are tried, then leaving out
    blocks of what is kept. Keeping all layers loses nothing, and is not judged.
    """
    trials = _Trials(judge, bound)
    if trials.accept(()):
        return [], trials.made
    ranked = list(rank())
    kept = _without_blocks(_fewest_harmful(ranked, trials), trials)
    return kept, trials.made


class _Trials:
    """Judges each candidate once, and none when EVALUATIONS are used up."""

    def __init__(self, judge: Judge, bound: float) -> None:
        self._judge, self._bound = judge, bound
        self._accepted: dict[frozenset[str], bool] = {}
        self.made: list[Candidate] = []

    @property
    def left(self) -> int:
        return EVALUATIONS - len(self.made)

    def accept(self, kept: Sequence[str]) -> bool:
        layers = frozenset(kept)
        if layers not in self._accepted:
            if not self.left:
                return False
            self.made.append(self._judge(kept))
            self._accepted[layers] = self.made[-1].ap_drop_high <= self._bound
        return self._accepted[layers]


def _fewest_harmful(ranked: list[str], trials: _Trials) -> list[str]:
    low, high = 0, 1
    while high < len(ranked) and not trials.accept(ranked[:high]):
        low, high = high, 2 * high
    high = min(high, len(ranked))
    between = sorted({low + (high - low) * quarter // 4 for quarter in (1, 2, 3)} - {low})
    return next((ranked[:n] for n in between if trials.accept(ranked[:n])), ranked[:high])


def _without_blocks(kept: list[str], trials: _Trials) -> list[str]:
    """Leave out a quarter of what is kept where that is accepted, then ever smaller blocks.

    The least harmful block first; the most harmful one stays.
    """
    size = max(1, len(kept) // 4)
    while size and trials.left:
        for start in reversed(range(size, len(kept), size)):
            fewer = kept[:start] + kept[start + size :]
            if trials.accept(fewer):
                kept = fewer
        size //= 2
    return kept


def reached_outputs(graph: onnx.GraphProto) -> dict[str, set[str]]:
    """Map each layer to the network's outputs that depend on it within the network.

    Behind proposals every row may change with one of them, so that values cannot be compared there.
    """
    positions = set(network(graph, ()))
    outside = reads_outside(graph, positions)
    reached: dict[str, set[str]] = {}  # of a value
    found: dict[str, set[str]] = {}
    for i in sorted(positions, reverse=True):  # in a graph's order readers come after
        node = graph.node[i]
        ends = set().union(*(reached.get(name, set()) for name in node.output))
        ends |= outside.intersection(node.output)
        for position in data_inputs(node):
            reached.setdefault(node.input[position], set()).update(ends)
        if node.op_type in WEIGHTED:
            found[node.name] = ends
    return found


def relative_noise(fp32: Sequence[Values], int8: Sequence[Values], ends: Sequence[str]) -> float:
    """Return the mean over the values `ends` of their squared error divided by their variance."""
    parts = []
    for name in ends:
        power = sum(float(np.var(one[name])) for one in fp32)
        error = sum(
            float(np.mean((a[name] - b[name]) ** 2)) for a, b in zip(fp32, int8, strict=True)
        )
        parts.append(error / power if power else 0.0)
    return float(np.mean(parts)) if parts else 0.0
