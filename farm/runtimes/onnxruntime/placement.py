"""Which provider ran which node: ONNX Runtime falls back node by node, and reports none of it.

What is computed from shapes and constants alone may run anywhere. ONNX Runtime puts such nodes on
the CPU on purpose, next to the `Shape` whose result lies there (`GetCpuPreferredNodes` in its
`fallback_cpu_capability.cc`); its own switch `session.disable_cpu_ep_fallback` makes no such
difference, and refuses nearly every model with free axes. Any node on another provider that takes
part of the image's values has fallen back.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx

_OF_SHAPES = ("Shape", "Size")
_COPIES = ("MemcpyFromHost", "MemcpyToHost")
_KERNEL_TIME = "_kernel_time"


@dataclass(frozen=True)
class ExecutedNode:
    """A node of the graph as it was run: optimised, and perhaps fused with others."""

    name: str
    operator: str
    provider: str


def read(profile: Path) -> list[ExecutedNode]:
    """Return the nodes of a profiled run, each once, without the copies between devices."""
    events = json.loads(profile.read_text())
    nodes = [
        ExecutedNode(
            event["name"].removesuffix(_KERNEL_TIME),
            event["args"]["op_name"],
            event["args"]["provider"],
        )
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL_TIME)
    ]
    return [node for node in dict.fromkeys(nodes) if node.operator not in _COPIES]


def of_shapes(graph: onnx.GraphProto) -> frozenset[str]:
    """Return the names of the nodes that compute from shapes and constants alone.

    A node without a name has the one that a profile gives it: its operator and its position.
    """
    known = {"", *(constant.name for constant in graph.initializer)}
    names: set[str] = set()
    others: set[str] = set()
    for position, node in enumerate(graph.node):
        nested = any(one.HasField("g") or one.graphs for one in node.attribute)
        if node.op_type in _OF_SHAPES or (not nested and known.issuperset(node.input)):
            known.update(node.output)
            kind = names
        else:
            kind = others
        kind.add(node.name or f"{node.op_type}_{position}")
    return frozenset(names - others)


def fallen_back(
    executed: Iterable[ExecutedNode], wanted: str, shapes: frozenset[str]
) -> list[ExecutedNode]:
    """Return the nodes that another provider ran, although they process part of the image."""
    return [one for one in executed if one.provider != wanted and one.name not in shapes]


def summary(fallen: Iterable[ExecutedNode]) -> str:
    """Count operators by provider: `CPUExecutionProvider: 2 NonZero, 1 Cast; ...`."""
    counts: dict[str, Counter[str]] = {}
    for one in fallen:
        counts.setdefault(one.provider, Counter())[one.operator] += 1
    return "; ".join(
        f"{provider}: "
        + ", ".join(f"{count} {operator}" for operator, count in operators.most_common())
        for provider, operators in sorted(counts.items())
    )
