"""What the farm knows how to do, by name: one line per runtime, and which packages shape a stage.

Read at planning, so it holds names only; the modules it names are imported where they run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from farm.specs.pipeline import is_mmdets

OPSETS = tuple(range(11, 21))
"""Opsets that torch's TorchScript exporter writes and that have the operators detectors need."""

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
"""What a file's network computes in. All but fp32 are made by `convert`, and are in the file."""

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
    cuts: gives what its graph ends with (so postprocess is an axis).
    precisions: those whose files it takes; see its module for what it computes in.
    builder_flags: its builder can lower an fp32 file itself, where the matrix asks for that by the
    runtime's option of this name; `convert` is then left out. by_flag: the precisions of which it
    takes no file, so that they need that option.
    simplified_dynamic: takes simplified files with free axes. TensorRT does not count as one that
    does until that is shown: with it a model is either simplified or dynamic.
    packages: their versions are part of the key of what this runtime builds and runs.
    options: the names of its own; None where it takes any and complains itself.
    max_opsets: beginnings of its version, each with the highest opset that this reads.
    compute_capabilities: those it builds for, with no GPU there; () where engines are built on
    the target itself. suppresses: it has NonMaxSuppression. profiles: it builds for the least and
    the largest size of a dynamic shape, which the network must then take.
    """

    module: str
    packages: tuple[str, ...]
    exported: bool = True
    builds: bool = True
    workspaces: bool = False
    precisions: tuple[str, ...] = ("fp32",)
    builder_flags: bool = False
    by_flag: tuple[str, ...] = ()
    accelerators: bool = False
    cuts: bool = True
    simplified_dynamic: bool = True
    options: tuple[str, ...] | None = None
    max_opsets: tuple[tuple[str, int], ...] = ()
    compute_capabilities: tuple[str, ...] = ()
    suppresses: bool = True
    profiles: bool = False


RUNTIMES = {
    "torch": Runtime("farm.runtimes.torch", ("torch", "mmcv-full", "mmdet"), False, False),
    "onnxruntime": Runtime("farm.runtimes.onnxruntime", ("onnxruntime",), precisions=PRECISIONS),
    "onnxruntime_cuda": Runtime(
        "farm.runtimes.onnxruntime_cuda",
        ("onnxruntime-gpu",),
        precisions=("fp32", "fp16"),
        accelerators=True,
        options=("allow_fallback", "cuda_graph", "provider_options"),
    ),
    "onnxruntime_tensorrt": Runtime(
        "farm.runtimes.onnxruntime_tensorrt",
        ("onnxruntime-gpu", "tensorrt"),
        workspaces=True,
        precisions=PRECISIONS,
        builder_flags=True,
        by_flag=("bf16",),  # ONNX Runtime reads no bf16 Conv below opset 22
        accelerators=True,
        profiles=True,
        simplified_dynamic=False,
        options=(
            "allow_fallback",
            "builder_flags",
            "hardware_compatible",
            "optimization_level",
            "provider_options",
            "timing_cache",
        ),
    ),
    "openvino": Runtime("farm.runtimes.openvino", ("openvino",), precisions=PRECISIONS),
    "tensorrt": Runtime(
        "farm.runtimes.tensorrt",
        ("tensorrt",),
        workspaces=True,
        precisions=PRECISIONS,
        builder_flags=True,
        accelerators=True,
        profiles=True,
        simplified_dynamic=False,
        options=(
            "builder_flags",
            "cuda_graph",
            "hardware_compatible",
            "optimization_level",
            "plugins",
            "tactic_sources",
            "timing_cache",
            "version_compatible",
        ),
        max_opsets=(("8.", 17),),
    ),
    "tensorrt_rtx": Runtime(
        "farm.runtimes.tensorrt_rtx",
        ("tensorrt-rtx-cu13-bindings",),
        workspaces=True,
        precisions=PRECISIONS,
        accelerators=True,
        profiles=True,
        simplified_dynamic=False,
        options=("cuda_graph", "optimization_level", "plugins"),
        compute_capabilities=("7.5", "8.0", "8.6", "8.9", "12.0"),
        suppresses=False,
    ),
    "null": Runtime("farm.runtimes.null", (), cuts=False),
}


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


class Preparer(NamedTuple):
    """What prepares images: its module, and the packages that decide their pixels."""

    module: str
    packages: tuple[str, ...]


_IMAGES = ("numpy", "opencv-python-headless")
_OPENCV = Preparer("farm.preprocess.opencv", _IMAGES)
_MMDET = Preparer("farm.sources.mmdet.preparer", (*_IMAGES, "mmcv-full", "mmdet"))


def preparers_of(source: str) -> tuple[Preparer, ...]:
    """Returns those that the models of a source may need."""
    return (_OPENCV, _MMDET) if source == "mmdet" else (_OPENCV,)


def preparer_of(pipeline: str) -> Preparer:
    """Returns what prepares images by a pipeline (`ModelFacts.pipeline`)."""
    return _MMDET if is_mmdets(pipeline) else _OPENCV


EXPORT_PACKAGES = ("onnx",)
CONVERT_PACKAGES = ("onnx",)
INT8_OPSET = 13
"""From which on DequantizeLinear takes a scale for each channel."""

INT8_PACKAGES = ("onnxruntime",)
"""Beside those: they calibrate and quantise, for every runtime."""
SIMPLIFY_PACKAGES = ("onnxslim",)
EVALUATE_PACKAGES = ("pycocotools", "numpy")
