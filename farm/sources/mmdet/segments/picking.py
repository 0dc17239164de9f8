"""Whole maps out of many, one by one."""

from __future__ import annotations

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from torch import Tensor


def picked(values: Tensor, index: Tensor) -> Tensor:
    """[N, P, ...] and [N, k] -> [N, k, ...], without an index as large as the values."""
    first = torch.arange(values.shape[0], device=index.device).unsqueeze(1) * values.shape[1]
    chosen = values.flatten(0, 1).index_select(0, (index + first).flatten())
    return chosen.reshape(-1, index.shape[1], *values.shape[2:])
