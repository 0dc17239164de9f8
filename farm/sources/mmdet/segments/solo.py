"""SOLO, Decoupled SOLO and SOLOv2: one mask per grid cell, suppressed by matrix NMS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmdet.models import dense_heads
from mmdet.models.detectors.single_stage_instance_seg import SingleStageInstanceSegmentor
from torch import Tensor, nn
from torch.nn import functional

from farm.sources.mmdet.candidates import CAP, Candidates, best_pairs, rows, select_rows
from farm.sources.mmdet.parts import packed, require, require_test_path

Masks = Callable[[Tensor], Tensor]
"""Maps cells int64 [N, k], numbered across all grids, to masks [N, k, h, w] of probabilities."""

Read = Callable[[Any, tuple[Any, ...]], tuple[list[Tensor], Masks]]
"""head, its outputs -> scores [N, C, grid, grid] per level, and the function for cells' masks."""


def decayed(masks: Tensor, areas: Tensor, labels: Tensor, scores: Tensor, cfg: Any) -> Tensor:
    """Compute the scores [N, k] of `mask_matrix_nms`, in the same order; 0 below `filter_thr`.

    masks [N, k, P] of zeros and ones; areas [N, k] are their sums; labels int64 [N, k]; scores
    [N, k], 0 for rows that do not take part. cfg: `kernel`, `sigma`, `filter_thr`.

    mmdet sorts the rows, and each row decays the scores of those after it. Here the order stays,
    and the scores decide which row counts as earlier.
    """
    inner = masks @ masks.transpose(1, 2)
    union = areas.unsqueeze(2) + areas.unsqueeze(1) - inner
    counts = _before(scores) & (labels.unsqueeze(2) == labels.unsqueeze(1))
    overlap = inner / union.clamp(min=1) * counts.to(masks.dtype)
    # A row that overlaps a better one itself decays others less (the divisor in mmdet's formula).
    own = overlap.amax(1).unsqueeze(2)
    decay = _kernel(cfg)
    scores = scores * (decay(overlap) / decay(own)).amin(1)
    if cfg.filter_thr > 0:
        scores = torch.where(scores >= cfg.filter_thr, scores, torch.zeros_like(scores))
    return scores


def _before(scores: Tensor) -> Tensor:
    """Bool [N, k, k]: whether row i comes before row j by score, and for equal scores by index."""
    place = torch.arange(scores.shape[1], device=scores.device)
    row, column = scores.unsqueeze(2), scores.unsqueeze(1)
    earlier = place.unsqueeze(1) < place.unsqueeze(0)
    return (row > column) | ((row == column) & earlier.unsqueeze(0))


def _kernel(cfg: Any) -> Callable[[Tensor], Tensor]:
    if cfg.kernel == "linear":
        return lambda overlap: 1 - overlap
    return lambda overlap: torch.exp(-cfg.sigma * overlap**2)


class Solo(nn.Module):
    """images float32 [N, 3, H, W] -> dets, labels, masks [N, K, h, w]; see `graphs.graph`.

    Boxes are zeros, as in mmdet.
    """

    mask_frame = "segments"
    how = None  # matrix NMS needs no NMS operator

    def __init__(self, model: Any) -> None:
        super().__init__()
        require_test_path(model, SingleStageInstanceSegmentor)
        require(model, SingleStageInstanceSegmentor, ("format_results",))
        if model.bbox_head:
            raise ValueError("a mask head beside a box head cannot be exported yet")
        self.model = model
        self.read = _reader(model.mask_head)
        self.mask_threshold = float(model.mask_head.test_cfg.mask_thr)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        head = self.model.mask_head
        scores, masks_of = self.read(head, head(self.model.extract_feat(images)))
        found, masks = _found(head, scores, masks_of)
        return *packed(found), masks


def _found(head: Any, levels: list[Tensor], masks_of: Masks) -> tuple[Candidates, Tensor]:
    """`SOLOHead._get_results_single`, with `nms_pre` candidates where mmdet starts with all.

    The result equals mmdet's unless more than `nms_pre` scores exceed `score_thr`.
    """
    cfg = head.test_cfg
    scores = torch.cat([rows(level, head.cls_out_channels) for level in levels], 1)
    scores, cell, labels = best_pairs(scores, cfg.nms_pre if cfg.nms_pre > 0 else CAP)
    masks = masks_of(cell)
    inside = (masks > cfg.mask_thr).to(masks.dtype)
    areas = inside.sum((2, 3))
    sureness = (masks * inside).sum((2, 3)) / areas.clamp(min=1)
    counts = (scores > cfg.score_thr) & (areas > _strides(head, scores)[cell])
    scores = torch.where(counts, scores * sureness, torch.zeros_like(scores))
    scores = decayed(inside.flatten(2), areas, labels, scores, cfg)
    limit = scores.shape[1] if cfg.max_per_img <= 0 else cfg.max_per_img
    scores, index = scores.topk(limit, dim=1)
    boxes = torch.zeros_like(scores).unsqueeze(2).expand(-1, -1, 4)
    return Candidates(boxes, scores, labels.gather(1, index)), select_rows(masks, index)


def _strides(head: Any, like: Tensor) -> Tensor:
    """[cells]: the stride of each cell's level, which the area of its mask must exceed."""
    levels = zip(head.strides, head.num_grids, strict=True)
    return like.new_tensor([float(stride) for stride, grid in levels for _ in range(grid * grid)])


def _solo(head: Any, outs: tuple[Any, ...]) -> tuple[list[Tensor], Masks]:
    """`SOLOHead.get_results`: the head predicts the mask of every cell."""
    masks, scores = outs
    every = torch.cat(masks, 1)
    return scores, lambda cell: select_rows(every, cell)


def _decoupled(head: Any, outs: tuple[Any, ...]) -> tuple[list[Tensor], Masks]:
    """`DecoupledSOLOHead.get_results`: a cell's mask is the product of its column's and row's."""
    columns, lines, scores = torch.cat(outs[0], 1), torch.cat(outs[1], 1), outs[2]
    column, line = _columns_and_lines(head, scores[0].device)
    return scores, lambda cell: select_rows(columns, column[cell]) * select_rows(lines, line[cell])


def _columns_and_lines(head: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """Int64 [cells] each: the index of a cell's column and of its row among those of all grids."""
    columns: list[int] = []
    lines: list[int] = []
    start = 0
    for grid in head.num_grids:
        places = range(start, start + grid)
        columns += [column for _ in places for column in places]
        lines += [line for line in places for _ in places]
        start += grid
    return torch.tensor(columns, device=device), torch.tensor(lines, device=device)


def _solov2(head: Any, outs: tuple[Any, ...]) -> tuple[list[Tensor], Masks]:
    """`SOLOV2Head.get_results`: each cell predicts a kernel for the shared mask features."""
    levels, scores, features = outs
    kernels = torch.cat([rows(level, head.kernel_out_channels) for level in levels], 1)

    def masks(cell: Tensor) -> Tensor:
        logits = select_rows(kernels, cell) @ features.flatten(2)
        return logits.reshape(-1, cell.shape[1], *features.shape[2:]).sigmoid()

    return [_local_best(level.sigmoid()) for level in scores], masks


def _local_best(scores: Tensor) -> Tensor:
    """A cell's score if no upper or left neighbour has a better one, else 0."""
    best = functional.max_pool2d(scores, 2, stride=1, padding=1)[:, :, :-1, :-1]
    return scores * (best == scores).to(scores.dtype)


_RULES = ("simple_test", "get_results", "_get_results_single", "forward")

READERS: dict[type, Read] = {
    dense_heads.SOLOHead: _solo,
    dense_heads.DecoupledSOLOHead: _decoupled,
    dense_heads.DecoupledSOLOLightHead: _decoupled,
    dense_heads.SOLOV2Head: _solov2,
}
"""Reader for a head's class, looked up along the MRO."""


def _reader(head: Any) -> Read:
    """Raises ValueError for a head that is not known here or overrides mmdet's methods."""
    base = next((kind for kind in type(head).__mro__ if kind in READERS), None)
    if base is None:
        raise ValueError(f"mask head {type(head).__name__} cannot be exported yet")
    require(head, base, _RULES)
    if getattr(head, "dynamic_conv_size", 1) != 1:
        raise ValueError("SOLOv2 with kernels larger than one pixel cannot be exported yet")
    if head.test_cfg.kernel not in ("gaussian", "linear"):
        raise ValueError(f"matrix NMS with the kernel {head.test_cfg.kernel!r} is not known")
    return READERS[base]
