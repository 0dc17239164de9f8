"""Finds which heights and widths a detector accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from farm.sources import sizes
from farm.sources.mmdet import graphs

if TYPE_CHECKING:
    from farm.sources.mmdet.detector import Detector
    from farm.specs import Sizes


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
