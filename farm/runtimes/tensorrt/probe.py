"""Whether TensorRT and TensorRT-RTX work here: tried by what they are there for."""

from __future__ import annotations

from farm.findings import Finding, installed
from farm.runtimes.tensorrt.cuda import has_gpu


def tensorrt() -> Finding:
    """Ask the driver whether there is a GPU: `Runtime` crashes the process where there is none."""
    if not installed("tensorrt"):
        return Finding("tensorrt", "missing", "not installed")
    import tensorrt

    version = tensorrt.__version__
    if not has_gpu():
        return Finding("tensorrt", "warning", f"{version}, but no NVIDIA GPU to run on")
    return Finding("tensorrt", "ok", version)


def tensorrt_rtx() -> Finding:
    """Make a builder: that needs no GPU."""
    if not installed("tensorrt-rtx-cu13-bindings"):
        return Finding("tensorrt_rtx", "missing", "not installed")
    import tensorrt_rtx_bindings as library

    library.Builder(library.Logger(library.Logger.ERROR))
    runs = "builds and runs" if has_gpu() else "builds engines; no NVIDIA GPU to run them on"
    return Finding("tensorrt_rtx", "ok", f"{library.__version__}, {runs}")
