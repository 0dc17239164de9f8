"""Where a graph ends before its detections: at the candidates, or at the heads' raw outputs."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmdet.models.detectors.panoptic_two_stage_segmentor import TwoStagePanopticSegmentor
from mmdet.models.detectors.single_stage_instance_seg import SingleStageInstanceSegmentor
from torch import Tensor, nn

from farm.inputs import Suppression


class BeforeSuppression(nn.Module):
    """images -> boxes [N, M, 4], scores [N, M] (0: does not take part), labels int64 [N, M].

    For a form that has its `candidates` and, as `how`, their final suppression.
    """

    outputs = ("boxes", "scores", "labels")

    def __init__(self, form: Any) -> None:
        super().__init__()
        self.form = form

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = self.form.candidates(images)
        return found.boxes, found.scores, found.labels


class Raw(nn.Module):
    """images -> what the model's own `forward_dummy` returns, flattened.

    `outputs` (out_0, out_1, ...) are known once it has run.
    """

    outputs: tuple[str, ...] = ()

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        with _fixed_proposals():
            values = tuple(_flat(self.model.forward_dummy(images)))
        self.outputs = tuple(f"out_{i}" for i in range(len(values)))
        return values


def suppression(form: Any) -> Suppression | None:
    """The final suppression of `form`; None for one that suppresses nothing anywhere.

    Raises:
        ValueError: it suppresses in a place where its graph cannot be cut.
    """
    if not hasattr(form, "how"):
        raise ValueError(
            f"{type(form.model).__name__} suppresses boxes in the middle of its graph, so that its"
            " suppression cannot run on the host; use `graph` or `none`"
        )
    how = form.how
    if how and how.decay is not None:
        raise ValueError("soft-NMS cannot run on the host; use `graph` or `none`")
    return how and Suppression(how.iou, how.class_agnostic, how.keep)


def raw_refusal(model: Any) -> str | None:
    """Why `model` has no raw outputs, or None."""
    name, method = type(model).__name__, type(model).forward_dummy
    undefined = (
        SingleStageInstanceSegmentor.forward_dummy,
        TwoStagePanopticSegmentor.forward_dummy,
    )
    if method in undefined or len(inspect.signature(method).parameters) != 2:
        return f"mmdet defines no raw outputs of {name} (its `forward_dummy` takes no image alone)"
    return None


def _flat(values: Any) -> Iterator[Tensor]:
    """The tensors of nested lists, tuples and mappings, in their order."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _flat(list(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _flat(value)


def _boxes() -> Tensor:
    """1000 boxes of 32 to 160 pixels: large enough for RoIAlign to be the same at every opset."""
    index = torch.arange(1000.0)
    corner = torch.stack([index % 96, index % 64], 1)
    return torch.cat([corner, corner + 32 + torch.stack([index % 128, index % 112], 1)], 1)


_PROPOSALS = _boxes()


@contextmanager
def _fixed_proposals() -> Iterator[None]:
    """Boxes that are always the same, where two-stage models feed themselves random rows.

    Few of those are boxes at all, and an engine must see what PyTorch saw.
    """
    drawn = torch.randn

    def fixed(*size: int, **options: Any) -> Tensor:
        return _PROPOSALS if size == tuple(_PROPOSALS.shape) else drawn(*size, **options)

    torch.randn = fixed  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.randn = drawn
