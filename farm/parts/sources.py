"""The farm's own model sources: mmdet's configs, functions that return a module, ready ONNX files.

Their descriptors stand outside of `farm.sources`, which imports numpy: a plan needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.config.models import MmdetSpec, ModuleSpec, OnnxSpec
from farm.parts import Source

if TYPE_CHECKING:
    from farm.parts import SourceAdapter


def _mmdet() -> SourceAdapter:
    from farm.sources import mmdet

    return mmdet


def _module() -> SourceAdapter:
    from farm.sources import module

    return module


def _onnx() -> SourceAdapter:
    from farm.sources import onnx

    return onnx


MMDET = Source(
    name="mmdet",
    packages=("torch", "mmcv-full", "mmdet"),
    module="farm.sources.mmdet",
    adapter=_mmdet,
    spec=MmdetSpec,
)
MODULE = Source(
    name="module",
    packages=("torch",),
    module="farm.sources.module",
    adapter=_module,
    spec=ModuleSpec,
)
ONNX = Source(
    name="onnx",
    packages=("onnx", "onnxruntime"),
    module="farm.sources.onnx",
    adapter=_onnx,
    spec=OnnxSpec,
    opsets=False,
    eager=False,
)
