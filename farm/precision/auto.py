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
class SearchStep:
    """How many of the most harmful layers were kept in fp32, and the AP then lost, in points."""

    kept: int
    ap_drop: float


def search(
    layers: Sequence[str], lost: Callable[[Sequence[str]], float], bound: float
) -> tuple[list[str], list[SearchStep]]:
    """Find the fewest of `layers` to keep so that `lost(kept)` is within `bound`.

    layers: most harmful first. The count is doubled, then bisected. With all of them kept,
    nothing is lost.
    """
    tried: list[SearchStep] = []

    def fits(count: int) -> bool:
        tried.append(SearchStep(count, lost(layers[:count])))
        return tried[-1].ap_drop <= bound

    low, high = -1, 0
    while high < len(layers) and not fits(high):
        low, high = high, min(len(layers), max(1, 2 * high))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return list(layers[:high]), tried


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
