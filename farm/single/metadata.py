"""What a config says of a model without its weights, and what an ONNX file says of itself."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm import specs
from farm.catalog import SOURCES
from farm.errors import InputError
from farm.plan.content.files import plain_file

if TYPE_CHECKING:
    from farm.specs import Dims


def facts_without_weights(model: specs.Model) -> specs.ModelFacts:
    """Return the facts of `model`, whose weights are in an ONNX file or an engine.

    Raises:
        InputError: the config is wrong, or has masks that cannot be read as mmdet does.
        StepFailed: as the source's `load`.
    """
    import torch

    from farm.sources.mmdet import config

    detector = config.build(config.read(model), model.config.path)
    _require_known_masks(detector, model.config.path)
    zeros = {name: torch.zeros_like(value) for name, value in detector.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "zeros.pth"
        torch.save(zeros, path)
        without_weights = replace(model, checkpoint=specs.File(str(path), ""))
        facts: specs.ModelFacts = SOURCES[model.source].adapter().load(without_weights).facts
    return facts


def _require_known_masks(detector: Any, where: str) -> None:
    """Raise InputError where masks need more than a threshold, which is all an engine's get."""
    from farm.sources.mmdet.parts import require_binary_masks

    head = getattr(detector, "roi_head", None)
    try:
        if getattr(head, "with_mask", False):
            require_binary_masks(head)
    except ValueError as error:
        raise InputError(str(error), where) from None


def without_flip(model: specs.Model) -> specs.Model:
    """Return `model` with its test pipeline's flip off: engines see an image only once.

    Raises:
        InputError: as `config.read`.
    """
    from farm.sources.mmdet import config
    from farm.sources.mmdet.data import test_data

    pipelines = test_data.test_pipelines(config.read(model), model.config.path)
    off = tuple(
        (f"{place}.{i}.flip", False)
        for place, pipeline in pipelines.items()
        for i, step in enumerate(pipeline)
        if isinstance(step, dict) and "flip" in step
    )
    return replace(model, cfg_options=model.cfg_options + off)


@dataclass(frozen=True)
class OnnxExtent:
    """The extent of a file's input [n, 3, h, w]; None for a free axis."""

    n: int | None
    h: int | None
    w: int | None

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width, where the file takes only one size."""
        return None if self.h is None or self.w is None else (self.h, self.w)

    def excludes(self, size: Dims) -> bool:
        """Return whether the file cannot take a batch of this size."""
        pairs = ((self.n, size.n), (self.h, size.h), (self.w, size.w))
        return any(own not in (None, wanted) for own, wanted in pairs)

    def __str__(self) -> str:
        axes = (self.n, 3, self.h, self.w)
        return "x".join("any" if axis is None else str(axis) for axis in axes)


def raw_onnx_model(path: Path) -> specs.OnnxModel:
    """Return the file as a model of raw outputs: any outputs will do until they are used.

    Raises:
        InputError: the file is not there.
    """
    return specs.OnnxModel(path.stem, plain_file("ONNX file", str(path), Path()), outputs="raw")


def onnx_extent(path: Path) -> OnnxExtent:
    """Return the extent of the file's input.

    Raises:
        InputError: the file is not an ONNX file, or does not take a batch of images.
    """
    axes = _onnx_facts(path).input_shape
    assert axes is not None  # `load` raises where a file has no such input
    return OnnxExtent(axes[0], axes[2], axes[3])


def onnx_opset(path: Path) -> int | None:
    """Return the file's opset.

    Raises:
        InputError: as `onnx_extent`.
    """
    return _onnx_facts(path).opset


def onnx_outputs(path: Path) -> tuple[str, ...]:
    """Return the names of the file's outputs."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    return tuple(one.name for one in model.graph.output)


def _onnx_facts(path: Path) -> specs.ModelFacts:
    return SOURCES["onnx"].adapter().load(raw_onnx_model(path)).facts
