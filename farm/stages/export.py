"""export: the detector as a standard ONNX file, checked by onnx's own checker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farm.inputs import ExportInputs
from farm.sources import source_module
from farm.stages import Context


def run(inputs: ExportInputs, context: Context) -> Mapping[str, Any]:
    """Leaves `model.onnx`."""
    import onnx

    source = source_module(inputs.model.source)
    path = context.folder / "model.onnx"
    source.export_onnx(source.load(inputs.model), inputs.shape, inputs.opset, path)
    graph = onnx.load(path, load_external_data=False).graph
    return {"onnx_bytes": path.stat().st_size, "onnx_nodes": len(graph.node)}
