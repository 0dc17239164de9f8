"""Finds which heights and widths a detector accepts, and for what size its config is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from farm.errors import InputError
from farm.sources import sizes
from farm.sources.mmdet import graphs
from farm.sources.mmdet.data import test_data
from farm.units import Dims

if TYPE_CHECKING:
    from farm.sources.mmdet.detector import Detector
    from farm.specs import Sizes


def own_scale(settings: Any, where: str) -> Dims | None:
    """Return the size to which the config's test pipeline resizes.

    mmdet reads a pair as (width, height). None where it resizes by a factor of each image's size.

    Raises:
        InputError: the pipeline has neither, or the data sets of `data.test` differ in it.
    """
    pipelines = test_data.test_pipelines(settings, where)
    scales = {place: _scale(steps, where) for place, steps in pipelines.items()}
    if len(set(scales.values())) > 1:
        raise InputError(f"{' and '.join(scales)} resize to different sizes; test one", where)
    return next(iter(scales.values()))


def _scale(steps: Sequence[Any], where: str) -> Dims | None:
    for step in filter(lambda step: isinstance(step, dict), steps):
        scale = step.get("img_scale")
        if isinstance(scale, list) and len(scale) == 1:
            scale = scale[0]
        if isinstance(scale, list | tuple) and all(isinstance(edge, int) for edge in scale):
            return Dims(1, 3, scale[1], scale[0])
        if step.get("scale_factor"):
            return None
    raise InputError("its test pipeline has no `img_scale` of a width and a height", where)


def taken(detector: Detector) -> Sizes | None:
    """Return the sizes that a detector accepts, which is in eval mode, on the CPU."""
    network = _Network(detector)
    return sizes.taken(_without_values(network), _with_values(network))


class _Network(nn.Module):
    """The part of a detector that depends on the input's size: RoIs have a fixed size."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.model, self._facts = detector.model, detector.facts

    def forward(self, images: Tensor) -> None:
        if hasattr(self.model, "roi_head"):
            self._features(images)
        elif self._facts.raw_refused is None:
            graphs.graph(self.model, "none")(images)
        else:
            graphs.graph(self.model)(images)

    def _features(self, images: Tensor) -> None:
        features = self.model.extract_feat(images)
        for owner in (self.model, getattr(self.model, "roi_head", None)):
            if (head := getattr(owner, "semantic_head", None)) is not None:
                head(features)


def _without_values(network: nn.Module) -> sizes.Run:
    """Runs on torch's meta device, which computes shapes only: fast, if all layers support it."""
    state = {
        name: torch.empty_like(value, device="meta")
        for name, value in (*network.named_parameters(), *network.named_buffers())
    }

    def run(size: int) -> None:
        with torch.no_grad(), torch.device("meta"):
            torch.func.functional_call(network, state, (torch.empty(1, 3, size, size),))

    return run


def _with_values(network: nn.Module) -> sizes.Run:
    def run(size: int) -> None:
        with torch.no_grad():
            network(torch.zeros(1, 3, size, size))

    return run
