"""NVIDIA GPUs, as the CUDA driver shows them."""

from __future__ import annotations

from farm.doctor.how import HOW
from farm.findings import Finding


def gpu() -> Finding:
    """Return the NVIDIA GPUs of this machine."""
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
