"""Graphs that end before the detections: at the candidates, or at the heads' raw outputs."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmdet.models.detectors.panoptic_two_stage_segmentor import TwoStagePanopticSegmentor
from mmdet.models.detectors.single_stage_instance_seg import SingleStageInstanceSegmentor
from mmdet.models.roi_heads.roi_extractors import GenericRoIExtractor, SingleRoIExtractor
from torch import Tensor, nn

from farm.sources.mmdet.compat import replaced
from farm.sources.mmdet.two_stage.pooling import pool_rows
from farm.sources.onnx_files import tensors

if TYPE_CHECKING:
    from farm.specs import Suppression


class BeforeSuppression(nn.Module):
    """images -> boxes [N, M, 4], scores [N, M] (0: does not take part), labels int64 [N, M].

    For a module that has a method `candidates` and, as `how`, the final suppression of these.
    """

    outputs = ("boxes", "scores", "labels")

    def __init__(self, form: Any) -> None:
        super().__init__()
        self.form = form

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = self.form.candidates(images)
        return found.boxes, found.scores, found.labels


class Raw(nn.Module):
    """images -> the outputs of the model's own `forward_dummy`, flattened.

    `outputs` (the names out_0, out_1, ...) is set by the first run.
    """

    outputs: tuple[str, ...] = ()

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        with _exportable(images):
            values = tuple(tensors(self.model.forward_dummy(images)))
        self.outputs = tuple(f"out_{i}" for i in range(len(values)))
        return values


def final_suppression(form: Any) -> Suppression | None:
    """Return the final suppression of the module `form`; None for one without suppression.

    Raises:
        ValueError: it suppresses in the middle of its graph, which cannot end there.
    """
    if not hasattr(form, "how"):
        raise ValueError(
            f"{type(form.model).__name__} suppresses boxes in the middle of its graph, so that its"
            " suppression cannot run on the host; use `graph` or `none`"
        )
    how: Suppression | None = form.how
    return how


def raw_refusal(model: Any) -> str | None:
    """Return why `model` has no raw outputs; None where it has."""
    name, method = type(model).__name__, type(model).forward_dummy
    undefined = (
        SingleStageInstanceSegmentor.forward_dummy,
        TwoStagePanopticSegmentor.forward_dummy,
    )
    if method in undefined or len(inspect.signature(method).parameters) != 2:
        return f"mmdet defines no raw outputs of {name} (its `forward_dummy` takes no image alone)"
    return None


def _boxes() -> Tensor:
    """1000 boxes of 32 to 160 pixels: large enough for RoIAlign to be equal at every opset."""
    index = torch.arange(1000.0)
    corner = torch.stack([index % 96, index % 64], 1)
    return torch.cat([corner, corner + 32 + torch.stack([index % 128, index % 112], 1)], 1)


_PROPOSALS = _boxes()
_randn = torch.randn


def _extract(extractor: Any, features: Any, rois: Tensor, scale: float | None = None) -> Tensor:
    """The extractors' `forward`, with operators that every runtime computes right; rois [R, 5]."""
    return pool_rows(extractor, features, rois[:, 1:], rois[:, 0].long(), scale)


@contextmanager
def _exportable(images: Tensor) -> Iterator[None]:
    """Replaces, while `forward_dummy` runs, random proposals and mmdet's RoI extraction.

    For two-stage models `forward_dummy` draws random rows as proposals, most of which are no valid
    boxes; an engine must get the same proposals as PyTorch. The fixed ones depend on the images
    formally (times 0): torch's exporter folds constants, and fails with a division by 0 where no
    constant box is narrow.
    """

    def fixed(*size: int, **options: Any) -> Tensor:
        if size != tuple(_PROPOSALS.shape):
            return _randn(*size, **options)
        return _PROPOSALS + images[0, 0, 0, 0] * 0

    with ExitStack() as stack:
        stack.enter_context(replaced(torch, "randn", fixed))
        if torch.onnx.is_in_onnx_export():
            for kind in (SingleRoIExtractor, GenericRoIExtractor):
                stack.enter_context(replaced(kind, "forward", _extract))
        yield
