"""Exports a torch module to an ONNX file that is cleaned, checked and reproducible."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from farm.errors import StepFailed
from farm.sources.onnx_cleaning import OUTPUTS_WITH_ROWS, finish, reason

if TYPE_CHECKING:
    from farm import specs

log = logging.getLogger(__name__)


def tensors(values: Any) -> Iterator[Tensor]:
    """Yield the tensors of nested lists, tuples and mappings, in their order."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from tensors(list(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from tensors(value)


def write(module: Any, shape: specs.Shape, opset: int, path: Path) -> None:
    """Write `path`: `images` [N, 3, H, W] -> the outputs that `module.outputs` names.

    The module is traced at shape.opt; axes that differ between shape.min and shape.max are dynamic.
    A module whose output names are known only after a run is run once first.

    Raises:
        StepFailed: this opset has no such operator, or ONNX's checker refuses the file.
    """
    images = torch.zeros(shape.opt.as_tuple())
    try:
        with warnings.catch_warnings(), torch.no_grad():
            _ignore_known_warnings()
            if not module.outputs:
                module(images)
            torch.onnx.export(
                module, (images,), str(path), dynamo=False, autograd_inlining=False,
                opset_version=opset, input_names=["images"], output_names=list(module.outputs),
                dynamic_axes=_dynamic_axes(shape, module.outputs),
            )  # fmt: skip
    except (MemoryError, OSError, StepFailed):
        raise  # transient, or the module's own error with its reason
    except Exception as error:  # the exporter's symbolics raise errors of many types
        log.error("export at opset %d failed", opset, exc_info=True)
        lacking = _lacking_operator(error, opset)
        raise StepFailed(lacking or reason(error, f"export at opset {opset}")) from error
    finish(path, f"export at opset {opset}")


def _dynamic_axes(shape: specs.Shape, outputs: tuple[str, ...]) -> dict[str, dict[int, str]]:
    """The dynamic axes; those of raw outputs are inferred by the exporter from the graph."""
    batch = {0: "batch"} if shape.dynamic_batch else {}
    size = {2: "height", 3: "width"} if shape.dynamic_size else {}
    axes = {"images": batch | size}
    rows = "candidates" if "boxes" in outputs else "detections"
    for name in outputs:
        if name in OUTPUTS_WITH_ROWS:
            axes[name] = batch | ({1: rows} if shape.dynamic_size else {})
    return {name: axis for name, axis in axes.items() if axis}


def _ignore_known_warnings() -> None:
    """Tracing warns of every Python branch; the branches taken here depend on no input value."""
    warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", message="Constant folding - Only steps=1 can be")
    warnings.filterwarnings("ignore", message="Exporting aten::index operator of advanced")


def _lacking_operator(error: Exception, opset: int) -> str | None:
    match = re.search(r"operator '?([\w:]+)'? to ONNX opset version", str(error))
    return match and f"operator {match[1]} cannot be written at opset {opset}; try a higher opset"
