"""How to get what is missing."""

from __future__ import annotations

from farm.catalog import RUNTIMES
from farm.findings import extra

HOW = {
    "torch": extra("mmdet"),
    "mmcv-full": "make setup (it builds mmcv-full against this torch)",
    "mmdet": extra("mmdet"),
    "onnx": extra("mmdet"),
    "onnxslim": f"{extra('mmdet')} (for `simplify: true` only)",
    "cuda-python": "pip install cuda-python -c constraints.txt (for NVIDIA GPUs only)",
    "NVIDIA GPU": "install NVIDIA's driver, if there is a GPU (for tensorrt and tensorrt_rtx only)",
    "ray": "pip install -e . -c constraints.txt",
    "mlflow": "pip install -e . -c constraints.txt",
}


def how(name: str) -> str:
    """Return the command that gets a library or a runtime; '' where none is known.

    Raises:
        InputError: another package's entry point for a runtime is broken.
    """
    return RUNTIMES[name].install if name in RUNTIMES and name not in HOW else HOW.get(name, "")
