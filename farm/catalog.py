"""What the farm knows how to do, by name: one line per runtime, and which packages shape a stage.

Read at planning, so it holds names only; the modules it names are imported where they run.
"""

from __future__ import annotations

from dataclasses import dataclass

OPSETS = tuple(range(11, 21))
"""Opsets that torch's TorchScript exporter writes and that have the operators detectors need."""

PRECISIONS = ("fp32",)

POSTPROCESS = ("graph", "host", "none")
"""Where a graph ends: after the final suppression (which is then in the graph), before it (it
runs after the engine, on the host, with the same result), or at the heads' raw outputs."""


@dataclass(frozen=True)
class Runtime:
    """A runtime as the plan sees it.

    module: imported on the node that builds or runs; see `farm.runtimes` for what it provides.
    exported: takes an ONNX file (so the opset is an axis); the reference takes the model itself.
    builds: leaves an engine in the store. workspaces: the workspace is an axis.
    accelerators: runs on targets with an accelerator, instead of on CPUs.
    packages: their versions are part of the key of what this runtime builds and runs.
    """

    module: str
    packages: tuple[str, ...]
    exported: bool = True
    builds: bool = True
    workspaces: bool = False
    precisions: tuple[str, ...] = ("fp32",)
    accelerators: bool = False


RUNTIMES = {
    "torch": Runtime("farm.runtimes.torch", ("torch", "mmcv-full", "mmdet"), False, False),
    "onnxruntime": Runtime("farm.runtimes.onnxruntime", ("onnxruntime",)),
    "openvino": Runtime("farm.runtimes.openvino", ("openvino",)),
    "null": Runtime("farm.runtimes.null", ()),
}

SOURCES = {"mmdet": ("farm.sources.mmdet", ("torch", "mmcv-full", "mmdet"))}
"""Model sources: the module and the packages that decide what it makes."""

PREPARE_PACKAGES = ("mmcv-full", "mmdet", "opencv-python-headless", "numpy")
EXPORT_PACKAGES = ("onnx",)
EVALUATE_PACKAGES = ("pycocotools", "numpy")
