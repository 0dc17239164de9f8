"""What the farm knows how to do, by name: one line per runtime, and which packages shape a stage.

Read at planning, so it holds names only; the modules it names are imported where they run.
"""

from __future__ import annotations

from typing import NamedTuple

from farm.registry import Registry
from farm.runtimes.base import Runtime

OPSETS = tuple(range(11, 21))
"""Opsets that torch's TorchScript exporter writes and that have the operators detectors need."""

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
"""What a file's network computes in. All but fp32 are made by `convert`, and are in the file."""

POSTPROCESS = ("graph", "host", "none")
"""Where a graph ends: after the final suppression (which is then in the graph), before it (it
runs after the engine, on the host, with the same result), or at the heads' raw outputs."""


RUNTIMES = Registry(
    Runtime,
    "farm.runtimes",
    (
        "farm.runtimes.torch:RUNTIME",
        "farm.runtimes.onnxruntime:RUNTIME",
        "farm.runtimes.onnxruntime_cuda:RUNTIME",
        "farm.runtimes.onnxruntime_tensorrt:RUNTIME",
        "farm.runtimes.openvino:RUNTIME",
        "farm.runtimes.tensorrt:RUNTIME",
        "farm.runtimes.tensorrt_rtx:RUNTIME",
        "farm.runtimes.null:RUNTIME",
    ),
)
"""What builds and runs engines; see `farm.runtimes.base`."""


class Source(NamedTuple):
    """A model source as the plan sees it.

    module: imported where it is used; see `farm.sources`. packages: decide what it makes.
    opsets: it writes at the opset that is asked, so that this is an axis. cuts: its graph can end
    in several places, so that `postprocess` is one. eager: PyTorch itself can run it.
    """

    module: str
    packages: tuple[str, ...]
    opsets: bool = True
    cuts: bool = False
    eager: bool = True


SOURCES = {
    "mmdet": Source("farm.sources.mmdet", ("torch", "mmcv-full", "mmdet"), cuts=True),
    "module": Source("farm.sources.module", ("torch",)),
    "onnx": Source("farm.sources.onnx", ("onnx", "onnxruntime"), opsets=False, eager=False),
}

PREPARER = "mmdet"
"""The source whose `Preparer` prepares the images of all."""

PREPARER_MODULE = "farm.sources.mmdet.preparer"
"""Where that `Preparer` is."""

PREPARE_PACKAGES = ("mmcv-full", "mmdet", "opencv-python-headless", "numpy")
EXPORT_PACKAGES = ("onnx",)
CONVERT_PACKAGES = ("onnx",)
INT8_OPSET = 13
"""From which on DequantizeLinear takes a scale for each channel."""

INT8_PACKAGES = ("onnxruntime",)
"""Beside those: they calibrate and quantise, for every runtime."""
SIMPLIFY_PACKAGES = ("onnxslim",)
EVALUATE_PACKAGES = ("pycocotools", "numpy")
