"""OpenVINO on the CPU: compiles, keeps the blob, runs it."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset8
from openvino.frontend.onnx import ConversionExtension

if TYPE_CHECKING:
    from farm.specs import EngineOptions, Shape

# OpenVINO's CPU plug-in runs fp32 models in bf16 where the CPU has it, unless a hint forbids it;
# only the scores show it. `dynamic`: each node in the type that the file gives it, natively
# where the CPU can; any other hint would move the layers that the file keeps in fp32.
_HINTS = {"fp32": "f32", "fp16": "dynamic", "bf16": "dynamic", "int8": "f32"}
_DEVICE = "CPU"


def core_with_operators() -> ov.Core:
    """Return an OpenVINO that reads DeformConv, too: it has the operator, its reader does not."""
    known = ov.Core()
    known.add_extension(ConversionExtension("DeformConv", _deform_conv))
    return known


def _deform_conv(node: Any) -> list[ov.Output]:
    """ONNX's DeformConv (image, weight, offset[, bias[, mask]]), zero outside the image."""
    image, weight, offset, *rest = (node.get_input(i) for i in range(node.get_input_size()))
    bias, mask = rest[0] if rest else None, rest[1] if len(rest) > 1 else None
    pads = node.get_attribute("pads", [0, 0, 0, 0])
    out = opset8.deformable_convolution(
        image,
        offset,
        weight,
        strides=node.get_attribute("strides", [1, 1]),
        pads_begin=pads[:2],
        pads_end=pads[2:],
        dilations=node.get_attribute("dilations", [1, 1]),
        mask=mask,
        group=node.get_attribute("group", 1),
        deformable_group=node.get_attribute("offset_group", 1),
        bilinear_interpolation_pad=True,
    )
    if bias is not None:
        out = opset8.add(out, opset8.unsqueeze(bias, opset8.constant([0, 2, 3])))
    return list(out.outputs())


def build(onnx: Path, folder: Path, options: EngineOptions) -> None:
    """Compile for the profile's shapes and keep the blob as `model.blob`."""
    core = core_with_operators()
    model = core.read_model(file_to_read(onnx, options.precision))
    if options.shape.dynamic:
        model.reshape(_bounds(options.shape))
    compiled = core.compile_model(model, _DEVICE, properties(options))
    blob = io.BytesIO()
    compiled.export_model(blob)
    (folder / "model.blob").write_bytes(blob.getbuffer())


def file_to_read(onnx: Path, precision: str) -> Path | bytes:
    """Return the file that OpenVINO reads in place of one in that precision.

    Signed int8 values it computes wrongly on CPUs without AMX (2026.4.1: YOLOX-Nano's AP is 0.04
    in place of 0.31), unsigned ones rightly.
    """
    if precision != "int8":
        return onnx
    from farm.precision.unsigned import shifted

    return bytes(shifted(onnx).SerializeToString())


def open_engine(folder: Path, options: EngineOptions, threads: int) -> OpenVinoEngine:
    """Open the blob that `build` kept."""
    return OpenVinoEngine(partial(_open, folder, options, threads))


def _open(folder: Path, options: EngineOptions, threads: int, streams: int) -> ov.CompiledModel:
    chosen = properties(options) | {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": streams}
    blob = io.BytesIO((folder / "model.blob").read_bytes())
    return ov.Core().import_model(blob, _DEVICE, chosen)


def _bounds(shape: Shape) -> ov.PartialShape:
    pairs = zip(shape.min.as_tuple(), shape.max.as_tuple(), strict=True)
    return ov.PartialShape([low if low == high else ov.Dimension(low, high) for low, high in pairs])


def properties(options: EngineOptions) -> dict[str, Any]:
    """Return what OpenVINO is told when it builds and opens an engine."""
    chosen: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": _HINTS[options.precision],
        "PERFORMANCE_HINT": "LATENCY",
    }
    return chosen | dict(options.options)


class OpenVinoSession:
    """One infer request of a compiled model."""

    def __init__(self, compiled: ov.CompiledModel) -> None:
        self._request: ov.InferRequest | None = compiled.create_infer_request()
        self._outputs = [output.get_any_name() for output in compiled.outputs]

    def run(self, images: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        """Run the engine; see `farm.runtimes.Session`."""
        assert self._request is not None
        self._request.set_input_tensor(ov.Tensor(images, shared_memory=True))
        # These arrays are copies: the request's own buffers are written again by the next run.
        outputs = self._request.infer().values()
        return dict(zip(self._outputs, outputs, strict=True))

    def close(self) -> None:
        """Free the request."""
        self._request = None


class OpenVinoEngine(OpenVinoSession):
    """A session that can be opened again for several requests at once.

    again: opens the blob for a number of streams.
    """

    def __init__(self, again: Callable[[int], ov.CompiledModel]) -> None:
        super().__init__(again(1))
        self._again = again

    def concurrent(self, streams: int) -> list[OpenVinoSession]:
        """Open the blob once more, with a stream a request; see `farm.runtimes.Concurrent`."""
        compiled = self._again(streams)
        return [OpenVinoSession(compiled) for _ in range(streams)]
