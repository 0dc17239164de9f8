"""export: the detector as a standard ONNX file, checked by onnx's own checker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from farm.catalog import SOURCES

if TYPE_CHECKING:
    from farm.specs import ExportInputs
    from farm.stages import Context


def run(inputs: ExportInputs, context: Context) -> Mapping[str, Any]:
    """Leave `model.onnx`.

    Raises:
        StepFailed: the model cannot be exported, or the file cannot be simplified.
    """
    import onnx

    source = SOURCES[inputs.model.source].adapter()
    path = context.folder / "model.onnx"
    detector = source.load(inputs.model)
    source.export_onnx(detector, inputs.shape, inputs.opset, path, inputs.postprocess)
    if inputs.simplify:
        from farm.sources.simplify import simplify

        simplify(path)
    model = onnx.load(path, load_external_data=False)
    return {
        "onnx_bytes": path.stat().st_size,
        "onnx_nodes": len(model.graph.node),
        "opset": next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx")),
    }
