"""The complete detector as one module: from images to detections in a fixed format."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmdet.models.detectors import (
    DETR,
    RPN,
    YOLACT,
    CenterNet,
    CornerNet,
    DeformableDETR,
    MaskFormer,
    SingleStageDetector,
    SparseRCNN,
    TridentFasterRCNN,
    TwoStageDetector,
)
from mmdet.models.detectors.panoptic_two_stage_segmentor import TwoStagePanopticSegmentor
from mmdet.models.detectors.single_stage_instance_seg import SingleStageInstanceSegmentor
from torch import Tensor, nn

from farm.sources.mmdet import dense, keypoints, partial_graphs, segments, two_stage
from farm.sources.mmdet.candidates import Candidates, suppress, suppression
from farm.sources.mmdet.parts import limits, packed, require_test_path
from farm.sources.mmdet.queries import Detr
from farm.sources.mmdet.queries.deformable_detr import DeformableDetr
from farm.sources.mmdet.queries.sparse import Sparse


class OneStage(nn.Module):
    """images float32 [N, 3, H, W] -> dets [N, K, 5], labels int64 [N, K]; see `graph`."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        require_test_path(model, SingleStageDetector)
        self.model, self.reader = model, dense.reader(model.bbox_head)
        self.clips_boxes = dense.clips_boxes(model.bbox_head)
        config = model.bbox_head.test_cfg
        self.last = suppression(config, config.get("max_per_img"))
        if self.reader.finish is None:  # else `finish` must follow in the graph
            self.how = self.last

    def candidates(self, images: Tensor) -> Candidates:
        """Return the candidates before the final suppression, where a graph may end."""
        head = self.model.bbox_head
        outs = head(self.model.extract_feat(images))
        return self.reader.read(head, outs, limits(images))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found = self.candidates(images)
        kept = suppress(found, self.last)
        if self.reader.finish is not None:
            kept = self.reader.finish(self.model.bbox_head, found, kept)
        return packed(kept)


class TwoStage(nn.Module):
    """images float32 [N, 3, H, W] -> dets, labels(, masks [N, K, m, m]); see `graph`."""

    kind: type = TwoStageDetector

    def __init__(self, model: Any) -> None:
        super().__init__()
        require_test_path(model, self.kind)
        two_stage.check(model)
        self.model = model
        self.first, self.second = two_stage.rpn_head(model), two_stage.roi_head(model)
        self.mask_scores, self.clips_boxes = self.second.mask_scores, self.second.clips_boxes

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        model, size = self.model, limits(images)
        features = model.extract_feat(images)
        found = self.first.run(model.rpn_head, features, size)
        found, *masks = self.second.run(model.roi_head, features, found, size)
        return (*packed(found), *(part for part in masks if part is not None))


class Trident(TwoStage):
    """TridentNet, whose own test path only repeats each image's metadata for the branches."""

    kind = TridentFasterRCNN


FORMS: dict[type, type[nn.Module]] = {
    SingleStageDetector: OneStage,
    TwoStageDetector: TwoStage,
    TridentFasterRCNN: Trident,
    DETR: Detr,
    DeformableDETR: DeformableDetr,
    SparseRCNN: Sparse,
    CornerNet: keypoints.Keypoints,
    CenterNet: keypoints.Keypoints,
    SingleStageInstanceSegmentor: segments.Solo,
    YOLACT: segments.Yolact,
    MaskFormer: segments.MaskTransformer,
}
"""Module to export for a detector's class, looked up along the MRO.

Each raises ValueError for a detector that overrides mmdet's methods."""

REFUSED: dict[type, str] = {
    TwoStagePanopticSegmentor: "answers with a panoptic map alone, where instances have no boxes"
    " and scores any more: there are no detections to export",
}
"""Why a detector's class cannot be exported."""


def graph(model: Any, postprocess: str = "graph") -> nn.Module:
    """Return `model` with its post-processing, vectorised over the batch, in eval mode.

    forward(images float32 [N, 3, H, W]) returns dets [N, K, 5] (x1 y1 x2 y2 in network pixels
    and the score, best first), labels int64 [N, K], and for models with masks either [N, K, m, m]
    probabilities inside each box for its label, or [N, K, h, w] over the full network input
    (see `mask_frame`). If masks have scores of their own, mask_scores [N, K] follow. Empty rows
    have score 0 and label -1. `outputs` has the outputs' names.

    With `postprocess` host or none (see `catalog.POSTPROCESS`) the graph ends earlier.

    Raises:
        ValueError: a part of the model cannot be exported; the message names it.
    """
    if postprocess == "none":
        return partial_graphs.Raw(model).eval()
    form: Any = _form(model)(model).eval()
    if postprocess == "host" and partial_graphs.final_suppression(form):
        return partial_graphs.BeforeSuppression(form).eval()
    form.outputs = ("dets", "labels") + ("masks",) * has_masks(model)
    form.outputs += ("mask_scores",) * getattr(form, "mask_scores", False)
    return form


def has_masks(model: Any) -> bool:
    """Return whether the model predicts masks."""
    return bool(getattr(model, "with_mask", False)) or bool(_stated(model, "mask_frame", ""))


def mask_frame(model: Any) -> str:
    """Return what masks of the graph cover: each "box", or the full input (`detections.masks`)."""
    return str(_stated(model, "mask_frame", "box"))


def mask_threshold(model: Any) -> float | None:
    """Return the value above which a pixel is the object's; None where the RoI head has it."""
    return _stated(model, "mask_threshold", None)


def clips_boxes(model: Any) -> bool | None:
    """Return whether boxes are clipped to the image; None where the box coder decides it."""
    return _stated(model, "clips_boxes", None)


def _stated(model: Any, name: str, otherwise: Any) -> Any:
    """An attribute of the module to export; `otherwise` where it has none or is refused."""
    try:
        return getattr(_form(model)(model), name, otherwise)
    except ValueError:
        return otherwise


def _form(model: Any) -> type[nn.Module]:
    if isinstance(model, RPN):
        raise ValueError(
            "RPN proposes regions of no class, so it detects nothing; export a two-stage detector,"
            " which has one inside"
        )
    for kind, reason in REFUSED.items():
        if isinstance(model, kind):
            raise ValueError(f"detector {type(model).__name__} {reason}")
    known = (FORMS[kind] for kind in type(model).__mro__ if kind in FORMS)
    if (form := next(known, None)) is None:
        raise ValueError(f"detector {type(model).__name__} cannot be exported yet")
    return form
