"""Shared by the modules to export of all detectors: checks, the input's size, the outputs."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from torch import Tensor

from farm.sources.mmdet.candidates import Candidates


def require_test_path(model: Any, kind: type) -> None:
    """Check that `model` is a `kind` and does not override its test path.

    Raises:
        ValueError: it is not, or overrides a method.
    """
    name = type(model).__name__
    if not isinstance(model, kind):
        raise ValueError(f"detector {name} cannot be exported yet")
    for rule in ("simple_test", "extract_feat"):
        if getattr(type(model), rule) is not getattr(kind, rule):
            raise ValueError(f"detector {name} has its own {rule}, which cannot be exported yet")


def limits(images: Tensor) -> Tensor:
    """Return W H W H of the network's input, traced so that it follows a dynamic size."""
    shape = torch._shape_as_tensor(images).to(images.device)
    return torch.stack([shape[3], shape[2], shape[3], shape[2]]).to(images.dtype)


def packed(found: Candidates) -> tuple[Tensor, Tensor]:
    """Return dets [N, K, 5] and labels [N, K], which are -1 in empty rows."""
    dets = torch.cat([found.boxes, found.scores.unsqueeze(2)], 2)
    return dets, torch.where(found.scores > 0, found.labels, torch.full_like(found.labels, -1))
