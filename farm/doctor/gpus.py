"""NVIDIA GPUs, and the libraries that run on them: tried by what they are there for."""

from __future__ import annotations

from farm.doctor.finding import Finding
from farm.doctor.how import HOW, installed


def tensorrt() -> Finding:
    """Whether there is a GPU is asked of the driver: trt.Runtime crashes where there is none."""
    if not installed("tensorrt"):
        return Finding("tensorrt", "missing", "not installed", HOW["tensorrt"])
    import tensorrt

    if not has_gpu():
        return Finding(
            "tensorrt", "warning", f"{tensorrt.__version__}, but no NVIDIA GPU to run on"
        )
    return Finding("tensorrt", "ok", tensorrt.__version__)


def tensorrt_rtx() -> Finding:
    """A builder is made: that needs no GPU."""
    if not installed("tensorrt-rtx-cu13-bindings"):
        return Finding("tensorrt_rtx", "missing", "not installed", HOW["tensorrt_rtx"])
    import tensorrt_rtx_bindings as library

    library.Builder(library.Logger(library.Logger.ERROR))
    runs = "builds and runs" if has_gpu() else "builds engines; no NVIDIA GPU to run them on"
    return Finding("tensorrt_rtx", "ok", f"{library.__version__}, {runs}")


def gpu() -> Finding:
    from farm.runtimes.tensorrt import cuda

    try:
        cuda.bindings()
    except cuda.CudaError:
        lacks = "not known: cuda-python, which finds it, is not installed"
        return Finding("NVIDIA GPU", "missing", lacks, HOW["cuda-python"])
    try:
        found = cuda.gpus()
    except cuda.CudaError as error:
        return Finding("NVIDIA GPU", "missing", str(error), HOW["NVIDIA GPU"])
    names = (f"{gpu}, {gpu.memory_bytes / 2**30:.0f} GiB" for gpu in found)
    return Finding("NVIDIA GPU", "ok", "; ".join(names))


def has_gpu() -> bool:
    from farm.runtimes.tensorrt import cuda

    try:
        return bool(cuda.gpus())
    except cuda.CudaError:
        return False
