"""What a sweep refuses when it plans a cell, refused for one build too, before its work."""

from __future__ import annotations

from pathlib import Path

from farm import specs
from farm.config.loader import Cell
from farm.errors import InputError
from farm.plan import compatibility
from farm.single import onnx_file
from farm.store import Store


def require_buildable(
    path: Path,
    exported: specs.Ref,
    settings: specs.EngineOptions,
    target: specs.Target,
    store: Store,
) -> None:
    """exported: the artifact that the ONNX file `path` is.

    Only the store knows that a file is a simplified one, so of a file from elsewhere nobody does.

    Raises:
        InputError: the runtime is not known to take this file, or not for this target.
    """
    record = store.record(exported)
    simplified = bool(record and record.inputs.get("simplify"))
    opset = onnx_file.opset(path)
    cell = Cell(
        path.name, opset, settings.shape.name, "graph", settings.precision, settings.runtime,
        settings.workspace_bytes, target.name,
    )  # fmt: skip
    facts = specs.ModelFacts((), False, "")  # its suppression is the builder's to complain of
    if reason := compatibility.cell_unsupported(
        cell, facts, settings.shape, target, simplify=simplified
    ):
        raise InputError(reason, str(path))
