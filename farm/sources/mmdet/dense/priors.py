"""The priors (anchors or points) of a head, for feature maps of any size."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from torch import Tensor


def priors(head: Any, features: list[Tensor], **options: Any) -> list[Tensor]:
    sizes = [feature.shape[-2:] for feature in features]
    return head.prior_generator.grid_priors(sizes, device=features[0].device, **options)
