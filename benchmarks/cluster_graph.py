"""The steps of a sweep on a small cluster, and the shortest time in which any order could run them.

The parents are those that the farm's planner gives: images are prepared once for a model, its
export feeds an engine for each runtime and target, and `verify` reads the reference, too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sleeping import step

from farm.plan import Step
from farm.plan.machines.placement import cpu_model
from farm.specs import Target

Nodes = Mapping[str, str | None]
"""The accelerator of each node that has one, by the node's name."""

NODES: Nodes = {"cpu0": None, "cpu1": None, "l4": "L4", "a100": "A100"}

CORES = 3
"""Of each node."""

CPU = Target("cpu", cpu_model())
TARGETS = {
    "L4": Target("l4", "L4", "L4", "8.9", "580"),
    "A100": Target("a100", "A100", "A100", "8.0", "580"),
}

_SHARED = {"prepare": 2.0, "reference": 4.0, "export": 3.0}
_ENGINE = {"build": 3.0, "verify": 2.0, "evaluate": 7.0, "measure": 1.0}
_ON_GPU = {"build": 3.0, "verify": 1.0, "evaluate": 1.0, "measure": 0.8}
_SIZES = (0.8, 1.0, 1.1, 0.9, 1.0)
"""How much longer than usual the steps of one model take, of the next, and so on."""

_SLOW_EXPORT_S = 8.0
"""Of the last model. All times are in seconds."""


def sweep(models: int, scale: float = 1.0) -> dict[str, Step]:
    """Return the steps of so many models by key, parents first.

    scale: of all times.
    """
    found = list[Step]()
    for number in range(models):
        found += _of_model(number, number == models - 1, scale)
    return {one.key: one for one in found}


def _of_model(number: int, slow: bool, scale: float) -> Iterable[Step]:
    size, name = _SIZES[number % len(_SIZES)] * scale, f"m{number}"
    prepare = step("prepare", name, _SHARED["prepare"] * size)
    reference = step("reference", name, _SHARED["reference"] * size, (prepare,))
    seconds = _SLOW_EXPORT_S * scale if slow else _SHARED["export"] * size
    export = step("export", name, seconds)
    yield from (prepare, reference, export)
    gpu = [*TARGETS.values()][number % len(TARGETS)]
    for runtime, target, times in (
        ("onnxruntime", CPU, _ENGINE),
        ("openvino", CPU, _ENGINE),
        ("tensorrt", gpu, _ON_GPU),
    ):
        label = f"{name}.{runtime}.{target.name}"
        build = step("build", label, times["build"] * size, (export,), target)
        read = (build, prepare)
        yield build
        yield step("verify", label, times["verify"] * size, (*read, reference), target)
        yield step("evaluate", label, times["evaluate"] * size, read, target)
        yield step("measure", label, times["measure"] * size, read, target)


@dataclass(frozen=True)
class Bound:
    """The least seconds that the steps can take, by each reason for that.

    path: the longest way through the graph. kinds: for each kind of node the work that only it can
    do, over its capacity; "any" for all of the work over all of the cores. A `measure` is counted
    with all cores and the GPU of its node.
    """

    path: float
    kinds: Mapping[str, float]

    @property
    def seconds(self) -> float:
        """Return the largest: nothing can be faster."""
        return max(self.path, *self.kinds.values())

    def __str__(self) -> str:
        kinds = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.kinds.items())
        return f"path {self.path:.1f}, {kinds} s"


def bound(steps: Mapping[str, Step], cores: int = CORES, nodes: Nodes = NODES) -> Bound:
    """Return the bound of steps on nodes of so many cores."""
    path, busy, count = dict[str, float](), defaultdict[str, float](float), Counter(nodes.values())
    for key, one in steps.items():
        path[key] = seconds(one) + max((path[parent] for parent in one.parents), default=0.0)
        kept = cores if one.needs.exclusive else one.needs.cpus
        busy["any"] += seconds(one) * kept / (cores * len(nodes))
        if one.needs.accelerator:
            busy[one.needs.accelerator] += seconds(one) / count[one.needs.accelerator]
    return Bound(max(path.values()), dict(busy))


def seconds(one: Step) -> float:
    """Return how long a step takes."""
    inputs: Any = one.inputs
    return float(inputs.seconds)
