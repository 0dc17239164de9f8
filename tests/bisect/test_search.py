"""Halving, by itself: differences that vanish while values are read out, and values that cannot be
read out."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest
from onnx import TensorProto, helper

from farm.bisect.differences import Difference, difference
from farm.bisect.graphs import Graph
from farm.bisect.search import Found, Search

LENGTH = 100


@pytest.fixture(scope="module")
def chain() -> Graph:
    """v0 to v99, each computed from the one before."""
    names = ["images", *(f"v{i}" for i in range(LENGTH))]
    nodes = [helper.make_node("Relu", [names[i]], [names[i + 1]], f"n{i}") for i in range(LENGTH)]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3])
    last = helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, [1, 3])
    return Graph(helper.make_model(helper.make_graph(nodes, "g", [images], [last])))


class Runtime:
    """Computes wrongly from one value on, unless one of the values that it fuses is read out."""

    def __init__(self, wrong: int, fused: Collection[int] = (), missing: Collection[int] = ()):
        self._wrong, self._missing = wrong, {f"v{i}" for i in missing}
        self._fused = {f"v{i}" for i in fused}
        self.passes: list[list[str]] = []

    def probe(self, names: Sequence[str]) -> dict[str, Difference]:
        self.passes.append(list(names))
        fuses = self._fused.isdisjoint(names)
        there = [name for name in names if name not in self._missing]
        return {one: Difference(float(fuses and int(one[1:]) >= self._wrong), "") for one in there}


def found(graph: Graph, runtime: Runtime) -> Found:
    def room(values: Sequence[str], most: int) -> list[str]:
        return list(values[:: max(len(values) // most, 1)][:most])

    search = Search(graph, runtime.probe, room, 0.5)
    return search.first(f"v{LENGTH - 1}", Difference(1.0, ""))


@pytest.mark.parametrize("wrong", [0, 1, 57, 98, 99])
def test_the_first_wrong_value_is_found_in_few_passes(chain: Graph, wrong: int) -> None:
    runtime = Runtime(wrong)
    one = found(chain, runtime)
    assert one.value == f"v{wrong}" and list(one.inputs) == [f"v{wrong - 1}"][: wrong > 0]
    assert one.between == () and len(runtime.passes) <= 3
    assert all(len(names) <= 13 for names in runtime.passes)


def test_a_difference_that_vanishes_when_it_is_looked_at_is_narrowed_down(chain: Graph) -> None:
    """v40 to v43 are one kernel: the difference is seen behind it, and nowhere in it."""
    one = found(chain, Runtime(41, fused=[40, 41, 42]))
    assert one.value == "v43" and list(one.inputs) == ["v39"]
    assert one.between == one.hidden == ("v40", "v41", "v42")


def test_values_that_cannot_be_read_out_are_between(chain: Graph) -> None:
    one = found(chain, Runtime(20, missing=[19, 20]))
    assert one.value == "v21" and list(one.inputs) == ["v18"]
    assert one.between == ("v19", "v20") and one.hidden == ()


@pytest.mark.parametrize(
    ("reference", "engine", "relative", "text"),
    [
        ([1.0, -4.0], [1.0, -4.0], 0, "is equal"),
        ([1.0, -4.0], [1.0, -3.0], 0.25, "differs by 0.25 of its largest value"),
        ([0.0, 0.0], [0.0, 1.0], float("inf"), "differs by 1, where the reference has zeros only"),
        ([float("inf"), 2.0], [float("inf"), 1.0], 0.5, "differs by 0.5 of its largest value"),
        ([float("nan"), 2.0], [1.0, 2.0], float("inf"), "what is finite, in 1 of 2 elements"),
        ([float("inf"), 2.0], [-float("inf"), 2.0], float("inf"), "in 1 of 2 elements"),
        ([1, 2, 3], [1, 2, 4], float("inf"), "differs in 1 of 3 elements"),
        ([True], [1], 0, "is equal"),
        ([1.0, 2.0], [1.0], float("inf"), "has the shape [1], expected [2]"),
        ([], [], 0, "is equal"),
    ],
)
def test_differences(
    reference: list[float], engine: list[float], relative: float, text: str
) -> None:
    import numpy as np

    one = difference(np.array(reference), np.array(engine))
    assert one.relative == pytest.approx(relative) and text in one.text
