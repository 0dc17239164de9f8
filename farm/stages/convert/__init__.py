"""convert: write the precision into the ONNX file, for every runtime that reads it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import onnx

from farm.errors import StepFailed
from farm.precision import region, typed

if TYPE_CHECKING:
    from farm.specs import ConvertInputs
    from farm.stages import Context

log = logging.getLogger(__name__)


def run(inputs: ConvertInputs, context: Context) -> Mapping[str, Any]:
    """Leave `model.onnx`.

    Raises:
        StepFailed: the file is not in fp32, no layer has the name of one to be kept, ONNX refuses
            the result, or as `int8.convert`.
    """
    model = onnx.load(str(context.artifact(inputs.exported) / "model.onnx"))
    region.prepare(model.graph)
    layers = region.layers(model.graph)
    kept = region.matching(model.graph, inputs.keep)
    more: Mapping[str, Any] = {}
    if inputs.int8 is not None:
        from farm.stages.convert import int8

        result = int8.convert(model, kept, inputs.int8, context)
        model, reduced, more = result.model, set(result.layers), result.figures
    else:
        reduced = set(typed.reduce_precision(model, inputs.precision, kept))
    changed = len(reduced.intersection(layers))
    log.debug("%d of %d layers are in %s", changed, len(layers), inputs.precision)
    _check(model, inputs.precision)
    path = context.folder / "model.onnx"
    onnx.save(model, str(path))
    return {
        "onnx_bytes": path.stat().st_size,
        "onnx_nodes": len(model.graph.node),
        "layers": len(layers),
        "kept_fp32": [name for name in layers if name not in reduced],
        **more,
    }


def _check(model: onnx.ModelProto, precision: str) -> None:
    """Raises StepFailed where ONNX refuses what was made."""
    opset = next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
    try:
        # ONNX's text gives bf16 to Conv, MaxPool and others from opset 22 on only; OpenVINO and
        # TensorRT read it at any.
        onnx.checker.check_model(model, full_check=precision != "bf16" or opset >= 22)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())[:300]
        raise StepFailed(f"the {precision} file is not valid: {reason}") from error
