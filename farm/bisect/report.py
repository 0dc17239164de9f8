"""What a search found, as text of 80 columns and as JSON."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from farm.bisect.calls import module_of
from farm.terminal.tables import fields
from farm.units import UNITS

if TYPE_CHECKING:
    from farm.bisect.differences import Difference
    from farm.bisect.graphs import Graph
    from farm.bisect.locate import Located
    from farm.bisect.search import Found

_WIDTH, _MOST_NAMES = 80, 6


@dataclass(frozen=True)
class Report:
    """What was compared, and where it differs.

    names: of both sides, the reference's first. outputs: how far theirs are apart; differs: why
    that counts as different, None where it does not. located: None where nothing was searched.
    modules: by value, where PyTorch is the reference: those whose outputs were compared.
    """

    cell: str
    names: tuple[str, str]
    images: str
    tolerance: float
    outputs: str
    differs: str | None
    graph: Graph
    located: Located | None = None
    modules: Mapping[str, str] | None = None

    @property
    def leaves(self) -> bool:
        """Whether something leaves the tolerance."""
        return self.differs is not None or bool(self.located and self.located.found)


def as_text(report: Report) -> str:
    """Return what was compared, and what a search found, without the conclusion."""
    ours, theirs = report.names
    parts = [_wrapped(f"{theirs} against {ours}: {report.differs or report.outputs}")]
    if report.located:
        parts.append(fields(_fields(report, report.located)))
    return "\n".join(parts)


def conclusion(
    reports: Sequence[Report], otherwise: str = "Nothing leaves the tolerance.", lead: str = ""
) -> str:
    """Return where the compared sides leave one another, a sentence for each that does.

    otherwise: what is said where none does. lead: what is said before where one does.
    """
    found = [lead + _conclusion(one) for one in reports if one.leaves]
    return "\n".join(map(_wrapped, found or [otherwise]))


def _wrapped(line: str) -> str:
    sentence = line[:1].upper() + line[1:] if line.startswith("the ") else line
    return textwrap.fill(sentence, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _fields(report: Report, located: Located) -> Iterator[tuple[str, str]]:
    yield "images", report.images
    size = f"{located.most_bytes / UNITS['MiB']:.1f} MiB"
    passes = "1 pass" if located.passes == 1 else f"{located.passes} passes"
    yield "compared", f"{located.compared} values in {passes}, {size} at most at once"
    if (found := located.found) is not None:
        node = report.graph.node(found.value)
        yield "node", f"{node.name or '(no name)'} ({node.op_type})"
        yield "module", _module(report, found.value) or "(not in the file)"
        yield "output", found.value
        yield "difference", f"{_bare(found.difference)} (tolerance {report.tolerance:g})"
        yield "its inputs", _inputs(found)
        if located.own is not None:
            yield "by itself", f"{_bare(located.own)}, given the engine's own inputs"
        if between := _between(report, found):
            yield "or in", _shortened(between)
    if located.worst is not None:
        node = report.graph.node(located.worst.value)
        yield "worst", f"{_bare(located.worst.difference)}, by itself:\n{node.name}"
    if located.given:
        yield "given", _shortened(located.given)


def _inputs(found: Found) -> str:
    """How far what the value is computed from is apart, at most."""
    largest = max((one.relative for one in found.inputs.values()), default=0.0)
    return f"within {largest:.1e}" if largest else "equal"


def _module(report: Report, value: str) -> str:
    """The module of a value: the one that returned it, or the one that its node's name tells."""
    own = (report.modules or {}).get(value)
    return own or module_of(report.graph.node(value).name)


def _between(report: Report, found: Found) -> list[str]:
    """The nodes whose outputs were not compared, on the way from the inputs to the value."""
    behind = report.graph.behind(found.value, found.inputs)
    own = report.graph.node(found.value).name
    names = dict.fromkeys(report.graph.node(value).name for value in behind)
    return [name for name in names if name != own]


def _shortened(names: Sequence[str]) -> str:
    """Names, a line each: all of them, or the first and the last."""
    if len(names) <= _MOST_NAMES:
        return "\n".join(names)
    left_out = f"... and {len(names) - _MOST_NAMES} more ..."
    return "\n".join([*names[: _MOST_NAMES - 1], left_out, names[-1]])


def _bare(one: Difference) -> str:
    text = one.text.removeprefix("differs by ").removeprefix("differs in ")
    return text.removeprefix("has the ").removeprefix("is ")


def _conclusion(report: Report) -> str:
    ours, theirs = report.names
    located = report.located
    if located is None or located.found is None:
        return (
            f"{theirs} leaves {ours} in its outputs ({report.differs}), but no value by more than"
            f" {report.tolerance:g} of its largest one; a lower --tolerance says where that begins."
        )
    found = located.found
    node, module = report.graph.node(found.value), _module(report, found.value)
    where = f"{node.name or found.value} ({node.op_type}{f', module {module}' if module else ''})"
    between = _between(report, found)
    if between:
        several = f"one of {len(between)} nodes before it"
        where += f", or at {between[0] if len(between) == 1 else several}"
    text = (
        f"{theirs} leaves {ours} at {where}: its output {found.difference.text}, and its inputs are"
        f" {_inputs(found)}"
    )
    if located.own is not None and located.own.relative <= report.tolerance:
        text += "; by itself the node is right"
        text += _most_added(report, located)
    return f"{text}."


def _most_added(report: Report, located: Located) -> str:
    if located.worst is None:
        return ""
    value = located.worst.value
    node, module = report.graph.node(value), _module(report, value)
    return (
        ", and differences before it add up; the largest of one node by itself,"
        f" {_bare(located.worst.difference)}, is that of {node.name or value}"
        f"{f' (module {module})' if module else ''}"
    )


def as_json(report: Report) -> dict[str, Any]:
    """Return the report for programs; what is infinite, as another shape, is null."""
    located = report.located
    return {
        "cell": report.cell,
        "reference": report.names[0],
        "compared": report.names[1],
        "outputs": report.outputs,
        "differs": report.differs,
        "tolerance": report.tolerance,
        "images": report.images,
        "found": located and located.found and _found_as_json(report, located),
        "worst": located and located.worst and {
            **_node_as_json(report, located.worst.value),
            "by_itself": _number(located.worst.difference),
        },
        "given": list(located.given) if located else [],
        "passes": located.passes if located else 0,
        "values": located.compared if located else 0,
        "bytes_at_once": located.most_bytes if located else 0,
    }  # fmt: skip


def _found_as_json(report: Report, located: Located) -> dict[str, Any]:
    assert located.found is not None
    found, graph = located.found, report.graph
    return {
        **_node_as_json(report, found.value),
        "difference": _number(found.difference),
        "text": found.difference.text,
        "by_itself": located.own and _number(located.own),
        "inputs": {name: _number(one) for name, one in found.inputs.items()},
        "between": _between(report, found),
        "vanishes_with": [graph.node(value).name for value in found.hidden],
    }


def _node_as_json(report: Report, value: str) -> dict[str, Any]:
    node, module = report.graph.node(value), _module(report, value)
    return {"node": node.name, "operator": node.op_type, "module": module, "output": value}


def _number(one: Difference) -> float | None:
    return one.relative if math.isfinite(one.relative) else None
