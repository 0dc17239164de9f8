"""Which layers int8 harms most, and how many of them must stay in fp32."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from farm.precision.region import WEIGHTED, data_inputs, network
from farm.precision.typed import reads_outside

Values = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Tried:
    """So many of the most harmful layers in fp32, and the AP then lost, in points of 100."""

    kept: int
    ap_drop: float


def search(
    layers: Sequence[str], lost: Callable[[Sequence[str]], float], bound: float
) -> tuple[list[str], list[Tried]]:
    """The fewest of `layers` (most harmful first) to keep so that `lost(kept)` is within `bound`.

    Doubling, then bisection. All of them lose nothing.
    """
    tried: list[Tried] = []

    def fits(count: int) -> bool:
        tried.append(Tried(count, lost(layers[:count])))
        return tried[-1].ap_drop <= bound

    low, high = -1, 0
    while high < len(layers) and not fits(high):
        low, high = high, min(len(layers), max(1, 2 * high))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return list(layers[:high]), tried


def borders(graph: onnx.GraphProto) -> dict[str, set[str]]:
    """Layer -> the network's results that it reaches without leaving the network.

    Behind proposals rows are others as soon as one of them changes: no comparison reaches there.
    """
    places = set(network(graph, ()))
    outside = reads_outside(graph, places)
    reached: dict[str, set[str]] = {}  # of a value
    found: dict[str, set[str]] = {}
    for i in sorted(places, reverse=True):  # in a graph's order readers come after
        node = graph.node[i]
        ends = set().union(*(reached.get(name, set()) for name in node.output))
        ends |= outside.intersection(node.output)
        for place in data_inputs(node):
            reached.setdefault(node.input[place], set()).update(ends)
        if node.op_type in WEIGHTED:
            found[node.name] = ends
    return found


def noise(fp32: Sequence[Values], int8: Sequence[Values], ends: Sequence[str]) -> float:
    """Mean over the values `ends` of the power of their error over that of their deviation."""
    parts = []
    for name in ends:
        power = sum(float(np.var(one[name])) for one in fp32)
        error = sum(
            float(np.mean((a[name] - b[name]) ** 2)) for a, b in zip(fp32, int8, strict=True)
        )
        parts.append(error / power if power else 0.0)
    return float(np.mean(parts)) if parts else 0.0
