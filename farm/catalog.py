"""What the farm knows how to do, by name: one line per runtime, and which packages shape a stage.

Read at planning, so it holds names only; the modules it names are imported where they run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from farm.datasets.base import DatasetType
from farm.parts import ExtraStage, Source, Stage
from farm.parts.registry import Lazy, Registry, named
from farm.runtimes.base import Runtime
from farm.specs.pipeline import is_mmdets

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
        "farm.runtimes.tensorrt:RTX",
        "farm.runtimes.null:RUNTIME",
    ),
)
"""What builds and runs engines; see `farm.runtimes.base`."""


def runtime_of(name: str) -> Runtime:
    """Return the descriptor of a cell's runtime, which may name a release: `openvino@2025.2`.

    Raises:
        KeyError: there is no such runtime.
    """
    return RUNTIMES[name.partition("@")[0]]


SOURCES = Registry(
    Source,
    "farm.sources",
    ("farm.parts.sources:MMDET", "farm.parts.sources:MODULE", "farm.parts.sources:ONNX"),
)
"""Where models come from; see `farm.parts`."""

DATASETS = Registry(
    DatasetType,
    "farm.datasets",
    (
        "farm.datasets.types:COCO",
        "farm.datasets.types:VOC",
        "farm.datasets.types:CUSTOM",
        "farm.datasets.types:CONFIG",
        "farm.datasets.types:SYNTHETIC",
        "farm.datasets.types:FOLDER",
    ),
)
"""What images are of; see `farm.datasets.base`."""

OWN_STAGES: Mapping[str, Stage] = Lazy(lambda: named("farm.parts.stages:STAGES"))
"""The farm's own stages of a matrix by name, in the order of the work."""

TABLE_STAGES: Mapping[str, Stage] = Lazy(lambda: named("farm.parts.stages:TABLE_STAGES"))
"""The stages of the table of models by name; no plan, pack or leaderboard has them."""

EXTRA_STAGES = Registry(ExtraStage, "farm.stages", taken=(OWN_STAGES, TABLE_STAGES))
"""Stages that other packages add, which run for each engine; see `farm.parts`."""


def engine_stages() -> dict[str, Stage]:
    """Return the stages that run engines by name, the farm's own first.

    Raises:
        InputError: another package's stage cannot be loaded.
    """
    known = {**OWN_STAGES, **EXTRA_STAGES}
    return {name: stage for name, stage in known.items() if stage.from_engine}


class Preparer(NamedTuple):
    """What prepares images: its module, and the packages that decide their pixels."""

    module: str
    packages: tuple[str, ...]


_IMAGES = ("numpy", "opencv-python-headless")
_OPENCV = Preparer("farm.preprocess.opencv", _IMAGES)
_MMDET = Preparer("farm.sources.mmdet.data.preparer", (*_IMAGES, "mmcv-full", "mmdet"))


def preparers_of(source: str) -> tuple[Preparer, ...]:
    """Returns those that the models of a source may need."""
    return (_OPENCV, _MMDET) if source == "mmdet" else (_OPENCV,)


def preparer_of(pipeline: str) -> Preparer:
    """Returns what prepares images by a pipeline (`ModelFacts.pipeline`)."""
    return _MMDET if is_mmdets(pipeline) else _OPENCV


INT8_OPSET = 13
"""From which on DequantizeLinear takes a scale for each channel."""

INT8_PACKAGES = ("onnxruntime",)
"""Beside those of `convert`: they calibrate and quantise, for every runtime."""

SIMPLIFY_PACKAGES = ("onnxslim",)
"""Beside those of `export`, where the file is simplified."""
