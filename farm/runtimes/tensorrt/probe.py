"""Whether TensorRT and TensorRT-RTX work here, by trying them."""

from __future__ import annotations

from farm.runtimes.base import Finding, installed
from farm.runtimes.tensorrt.cuda import has_gpu


def tensorrt() -> Finding:
    """Report the version, and whether the driver shows a GPU: TensorRT crashes without one."""
    if not installed("tensorrt"):
        return Finding("tensorrt", "missing", "not installed")
    import tensorrt

    version = tensorrt.__version__
    if not has_gpu():
        return Finding("tensorrt", "warning", f"{version}, but no NVIDIA GPU to run on")
    return Finding("tensorrt", "ok", version)


def tensorrt_rtx() -> Finding:
    """Report the version, after making a builder, which needs no GPU."""
    if not installed("tensorrt-rtx-cu13-bindings"):
        return Finding("tensorrt_rtx", "missing", "not installed")
    import tensorrt_rtx_bindings as library

    library.Builder(library.Logger(library.Logger.ERROR))
    runs = "builds and runs" if has_gpu() else "builds engines; no NVIDIA GPU to run them on"
    return Finding("tensorrt_rtx", "ok", f"{library.__version__}, {runs}")
