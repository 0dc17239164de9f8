"""How to get what is missing."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def extra(name: str) -> str:
    return f"pip install -e '.[{name}]' -c constraints.txt"


HOW = {
    "torch": extra("mmdet"),
    "mmcv-full": "make setup (it builds mmcv-full against this torch)",
    "mmdet": extra("mmdet"),
    "onnx": extra("mmdet"),
    "onnxslim": f"{extra('mmdet')} (for `simplify: true` only)",
    "onnxruntime": f"{extra('onnxruntime')} (with an NVIDIA GPU: gpu in place of onnxruntime)",
    "openvino": extra("openvino"),
    "tensorrt": f"{extra('tensorrt')} (for NVIDIA GPUs only)",
    "tensorrt_rtx": f"{extra('tensorrt_rtx')} (builds on any machine)",
    "cuda-python": "pip install cuda-python -c constraints.txt (for NVIDIA GPUs only)",
    "NVIDIA GPU": "install NVIDIA's driver, if there is a GPU (for tensorrt and tensorrt_rtx only)",
    "ray": "pip install -e . -c constraints.txt",
    "mlflow": "pip install -e . -c constraints.txt",
}


def installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
