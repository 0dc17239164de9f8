"""Which value of an ONNX file is the output of which call of a PyTorch module; names of modules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farm.bisect.graphs import Graph


@dataclass(frozen=True)
class Call:
    """One call of a module that returned one tensor, as a run of PyTorch showed it.

    module: its name, `model.backbone.conv1`. number: how often it was called before. leaf: it has
    no modules of its own. follows: its input is what the call before it returned.
    """

    module: str
    number: int
    shape: tuple[int, ...]
    leaf: bool
    follows: bool


def matched(
    graph: Graph, calls: Sequence[Call], shapes: Mapping[str, Sequence[int]]
) -> dict[str, Call]:
    """Return the calls by the values of the file that hold their outputs.

    calls: in the order in which they ended. shapes: of the values. A module whose work the
    exporter has put into the one before it (a normalisation into its convolution) has no nodes;
    the value is then its output, no more the other one's. Where a module has others of its own,
    its last node counts, if all of theirs come before.
    """
    last = _last_values(graph, {one.module for one in calls})
    found: dict[str, Call] = {}
    before: str | None = None
    for call in calls:
        value = last.get((call.module, call.number))
        if value is None and call.leaf and call.follows and before is not None:
            value = before  # its work is in the nodes of the one before
        if value is not None and tuple(shapes.get(value, ())) == call.shape:
            found[value] = call
        if call.leaf:
            before = value
    return found


def _last_values(graph: Graph, modules: set[str]) -> dict[tuple[str, int], str]:
    """The last value of each call, by module and number."""
    by_end = _by_end(modules)
    last: dict[tuple[str, int], str] = {}
    inner: dict[str, int] = {}
    for place, value in enumerate(graph.values):
        module, number = _call_of(graph.node(value).name, by_end)
        if module:
            last[module, number] = value
            for outer in _outer(module):
                inner[outer] = place
    order = {value: place for place, value in enumerate(graph.values)}
    return {call: value for call, value in last.items() if order[value] > inner.get(call[0], -1)}


def _by_end(modules: Iterable[str]) -> dict[str, str]:
    """Modules by each end of their names, since the file has the names of called ones only; the
    shortest where several end so."""
    found: dict[str, str] = {}
    for module in sorted(modules, key=len):
        parts = module.split(".")
        for start in range(len(parts)):
            found.setdefault(".".join(parts[start:]), module)
    return found


def _call_of(node: str, by_end: Mapping[str, str]) -> tuple[str, int]:
    """The module and number of the call that a node is of; ('', 0) where its name tells none."""
    scope = module_of(node)
    if scope in by_end:
        return by_end[scope], 0
    again = re.fullmatch(r"(.+)_(\d+)", scope)
    if again and again[1] in by_end:
        return by_end[again[1]], int(again[2])
    return "", 0


def _outer(module: str) -> Iterable[str]:
    while "." in module:
        module = module.rpartition(".")[0]
        yield module


def module_of(node: str) -> str:
    """Return the module in whose forward a node was traced: `backbone.layer1.0.conv1` of
    `/backbone/layer1/layer1.0/conv1/Conv`; '' where the name tells none.

    A module inside a Sequential has the name of that in its own (`layer1.0`), so that the part
    before it is the same again.
    """
    if not node.startswith("/"):
        return ""
    found: list[str] = []
    for part in node[1:].split("/")[:-1]:
        if found and part.startswith(f"{found[-1]}."):
            found[-1] = part
        else:
            found.append(part)
    return ".".join(found)


def in_users_model(module: str) -> str:
    """Return the name that a module has in the user's own model: what is exported holds that as
    `model` (a detector of mmdet) or `module` (one that a function returns)."""
    first, _, rest = module.partition(".")
    return rest if rest and first in ("model", "module") else module
