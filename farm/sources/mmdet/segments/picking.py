"""Selects maps by index."""

from __future__ import annotations

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from torch import Tensor


def picked(values: Tensor, index: Tensor) -> Tensor:
    """Select values [N, P, ...] by index [N, k] -> [N, k, ...].

    Unlike `gather`, this needs no index as large as the result.
    """
    first = torch.arange(values.shape[0], device=index.device).unsqueeze(1) * values.shape[1]
    chosen = values.flatten(0, 1).index_select(0, (index + first).flatten())
    return chosen.reshape(-1, index.shape[1], *values.shape[2:])
