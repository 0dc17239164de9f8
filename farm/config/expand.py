"""Expand a matrix into its cells: every combination once, minus `exclude`, plus `include`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from farm.catalog import SOURCES, runtime_of
from farm.config.models import OwnFormSpec
from farm.config.values import AxesSpec
from farm.specs import Cell

if TYPE_CHECKING:
    from farm.config.schema import MatrixSpec, SelectionSpec

AXES = ("opsets", "shapes", "postprocess", "precisions", "workspaces", "runtimes", "targets")

_ALL = AxesSpec.model_construct()
"""Selects nothing: all axes are the matrix's. Not validated, for which pydantic would build it."""


def expand(spec: MatrixSpec) -> tuple[tuple[Cell, ...], list[tuple[str, int]]]:
    """Return the cells in the order of the file, and which rules change nothing.

    Runtimes vary slowest within a model. A rule is (`exclude` or `include`, its number). An include
    of cells that are there already is none of those that are returned.
    """
    cells = [cell for name in spec.models for cell in _cells_of(spec, name, _ALL)]
    idle = list[tuple[str, int]]()
    for i, rule in enumerate(spec.exclude):
        named, before = _named(rule), len(cells)
        cells = [cell for cell in cells if not _matches(cell, named)]
        if len(cells) == before:
            idle.append(("exclude", i))
    for i, rule in enumerate(spec.include):
        names = rule.models or spec.models
        added = [cell for name in names for cell in _cells_of(spec, name, rule)]
        cells += added
        if not added:
            idle.append(("include", i))
    return tuple(dict.fromkeys(cells)), idle


def combinations(spec: MatrixSpec) -> int:
    """Count the combinations that `expand` goes through: at least as many as there are cells."""
    selections: list[tuple[str, AxesSpec]] = [(name, _ALL) for name in spec.models]
    selections += [(name, rule) for rule in spec.include for name in rule.models or spec.models]
    return sum(
        math.prod(len(_axis(spec, name, selection, axis)) for axis in AXES)
        for name, selection in selections
    )


def _cells_of(spec: MatrixSpec, name: str, selection: AxesSpec) -> Iterator[Cell]:
    axes = {axis: _axis(spec, name, selection, axis) for axis in AXES}
    if not all(axes.values()):
        return
    source = SOURCES[spec.models[name].source]
    outer = itertools.product(axes["runtimes"], axes["targets"], axes["precisions"])
    for runtime, target, precision in outer:
        known = runtime_of(runtime)
        fits = known.accelerators == (spec.targets[target].accelerator is not None)
        if not (fits and precision in known.precisions and (known.exported or source.eager)):
            continue
        inner = itertools.product(
            axes["workspaces"] if known.workspaces else [None],
            axes["shapes"],
            axes["postprocess"] if known.postprocess else ["graph"],
            axes["opsets"] if known.exported and source.opsets else [None],
        )
        for workspace, shape, postprocess, opset in inner:
            yield Cell(name, opset, shape, postprocess, precision, runtime, workspace, target)


def _axis(spec: MatrixSpec, name: str, selection: AxesSpec, axis: str) -> list[Any]:
    """Return the selection's values of an axis, else the model's, else the matrix's."""
    model = spec.models[name]
    if axis == "postprocess" and isinstance(model, OwnFormSpec):
        wanted = selection.postprocess
        return [model.ends_at] if wanted is None or model.ends_at in wanted else []
    for holder in (selection, model):
        if (own := getattr(holder, axis)) is not None:
            return list(own)
    return list(getattr(spec, axis))


_FIELDS = {
    "models": "model",
    "opsets": "opset",
    "shapes": "shape",
    "postprocess": "postprocess",
    "precisions": "precision",
    "workspaces": "workspace_bytes",
    "runtimes": "runtime",
    "targets": "target",
}


def _named(rule: SelectionSpec) -> list[tuple[str, frozenset[Any]]]:
    """Return the fields of a cell that a rule names, each with the values that match."""
    selected = {field: getattr(rule, axis) for axis, field in _FIELDS.items()}
    return [(field, frozenset(values)) for field, values in selected.items() if values is not None]


def _matches(cell: Cell, rule: list[tuple[str, frozenset[Any]]]) -> bool:
    return all(getattr(cell, field) in values for field, values in rule)
