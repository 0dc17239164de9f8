"""Deformable DETR: a query attends to a few points per level, near its reference point."""

from __future__ import annotations

from typing import Any, NamedTuple

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmdet.models import dense_heads
from mmdet.models.detectors import DeformableDETR
from mmdet.models.utils import transformer as transformers
from mmdet.models.utils.transformer import inverse_sigmoid
from torch import Tensor, nn

from farm.sources.mmdet.candidates import take
from farm.sources.mmdet.parts import limits, packed, require, require_test_path
from farm.sources.mmdet.queries import detections

_FAR = 1e4
"""A logit whose sigmoid is exactly 1; mmdet uses infinity, which not every runtime supports."""


class Levels(NamedTuple):
    """The sizes of the levels, traced, and the positions of their pixels.

    shapes int64 [L, 2]: height and width. starts int64 [L]: index of each level's first pixel among
    all pixels. Then the centres [P, 2] of all pixels, x and y as fractions of the image, and the
    same as a list by level (if they were sliced by `starts` instead, OpenVINO could not compile
    files of fixed sizes).
    """

    shapes: Tensor
    starts: Tensor
    centres: Tensor
    parts: list[Tensor]


class DeformableDetr(nn.Module):
    """images float32 [N, 3, H, W] -> dets [N, K, 5], labels int64 [N, K]; see `graphs.graph`.

    The full input counts as image, as for `Detr`.
    """

    how = None
    clips_boxes = True

    def __init__(self, model: Any) -> None:
        super().__init__()
        require_test_path(model, DeformableDETR)
        _check(model.bbox_head)
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        head = self.model.bbox_head
        maps = self.model.extract_feat(images)
        levels = _levels(maps)
        memory = _encoded(head, maps, levels)
        first = _proposed if head.as_two_stage else _learned
        queries, positions, points = first(head, memory, levels)
        logits, boxes = _decoded(head, queries, positions, points, memory, levels)
        return packed(detections(head, logits, boxes, limits(images)))


def _check(head: Any) -> None:
    require(head, dense_heads.DeformableDETRHead, ("forward", "get_bboxes"))
    for rule in ("_get_bboxes_single", "simple_test", "simple_test_bboxes"):
        if getattr(type(head), rule) is not getattr(dense_heads.DETRHead, rule):
            raise ValueError(f"{type(head).__name__} has its own {rule}, which is not known")
    rules = ("forward", "gen_encoder_output_proposals", "get_reference_points",
             "get_proposal_pos_embed")  # fmt: skip
    require(head.transformer, transformers.DeformableDetrTransformer, rules)
    require(head.transformer.decoder, transformers.DeformableDetrTransformerDecoder, ("forward",))


def _levels(maps: list[Tensor]) -> Levels:
    shapes = torch.stack([torch._shape_as_tensor(one)[2:].to(one.device) for one in maps])
    areas = shapes.prod(1)
    parts = [_centres(one, shape) for one, shape in zip(maps, shapes, strict=True)]
    return Levels(shapes, areas.cumsum(0) - areas, torch.cat(parts), parts)


def _centres(one: Tensor, shape: Tensor) -> Tensor:
    """The pixel centres [h * w, 2] of a map [N, C, h, w]."""
    # Converted to float before 0.5 is added: with fixed sizes, torch's exporter would fold integer
    # + 0.5 to a double, and all following constants, too.
    y, x = (
        (torch.arange(one.shape[2 + i], device=one.device).to(one.dtype) + 0.5)
        / shape[i].to(one.dtype)
        for i in (0, 1)
    )
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], 2)
    return grid.reshape(-1, 2)


def _encoded(head: Any, maps: list[Tensor], levels: Levels) -> Tensor:
    """The encoder's output for the pixels of all levels: [P, N, C]."""
    transformer = head.transformer
    positions = [
        _sequence(head.positional_encoding(torch.zeros_like(one[:, 0], dtype=torch.bool))) + embed
        for one, embed in zip(maps, transformer.level_embeds, strict=True)
    ]
    points = levels.centres.view(1, -1, 1, 2).expand(maps[0].shape[0], -1, len(maps), -1)
    return transformer.encoder(
        query=torch.cat([_sequence(one) for one in maps]),
        key=None,
        value=None,
        query_pos=torch.cat(positions),
        query_key_padding_mask=None,
        reference_points=points,
        spatial_shapes=levels.shapes,
        level_start_index=levels.starts,
    )


def _sequence(one: Tensor) -> Tensor:
    """[N, C, h, w] -> [h * w, N, C]."""
    return one.flatten(2).permute(2, 0, 1)


def _learned(head: Any, memory: Tensor, levels: Levels) -> tuple[Tensor, Tensor, Tensor]:
    """Learned queries [Q, N, C], their positional embeddings and reference points [N, Q, 2]."""
    embedding = head.query_embedding.weight.unsqueeze(1).expand(-1, memory.shape[1], -1)
    positions, queries = embedding.split(memory.shape[2], 2)
    points = head.transformer.reference_points(positions.transpose(0, 1)).sigmoid()
    return queries, positions, points


def _proposed(head: Any, memory: Tensor, levels: Levels) -> tuple[Tensor, Tensor, Tensor]:
    """The same for the two-stage variant, with reference boxes [N, Q, 4] of the best pixels.

    As in `gen_encoder_output_proposals`, pixels close to the border, or whose proposed box is too
    small or too large, are excluded.
    """
    transformer, last = head.transformer, head.transformer.decoder.num_layers
    sides = _sides(levels)
    proposals = torch.cat([levels.centres, sides, sides], 1)
    inside = ((proposals > 0.01) & (proposals < 0.99)).all(1, keepdim=True)
    places = torch.log(proposals / (1 - proposals))
    places = torch.where(inside, places, torch.full_like(places, _FAR))
    seen = memory.transpose(0, 1) * inside.to(memory.dtype)
    seen = transformer.enc_output_norm(transformer.enc_output(seen))
    scores = head.cls_branches[last](seen)[..., 0]
    chosen = scores.topk(transformer.two_stage_num_proposals, dim=1)[1]
    boxes = take(head.reg_branches[last](seen) + places, chosen)
    embedding = transformer.pos_trans(transformer.get_proposal_pos_embed(boxes))
    embedding = transformer.pos_trans_norm(embedding).transpose(0, 1)
    positions, queries = embedding.split(memory.shape[2], 2)
    return queries, positions, boxes.sigmoid()


def _sides(levels: Levels) -> Tensor:
    """[P, 1]: the size of the box that each pixel proposes, doubled from level to level."""
    parts = [torch.full_like(part[:, :1], 0.05 * 2.0**i) for i, part in enumerate(levels.parts)]
    return torch.cat(parts)


def _decoded(
    head: Any, queries: Tensor, positions: Tensor, points: Tensor, memory: Tensor, levels: Levels
) -> tuple[Tensor, Tensor]:
    """Logits [N, Q, classes] and boxes [N, Q, 4] of the last layer, as centre and size."""
    for i, layer in enumerate(head.transformer.decoder.layers):
        queries = layer(
            queries,
            key=None,
            value=memory,
            query_pos=positions,
            key_padding_mask=None,
            reference_points=points.unsqueeze(2).expand(-1, -1, levels.shapes.shape[0], -1),
            spatial_shapes=levels.shapes,
            level_start_index=levels.starts,
        )
        boxes = _moved(head.reg_branches[i](queries.transpose(0, 1)), points)
        if head.with_box_refine:
            points = boxes
    return head.cls_branches[i](queries.transpose(0, 1)), boxes


def _moved(deltas: Tensor, points: Tensor) -> Tensor:
    """Boxes [N, Q, 4] from deltas to reference points [N, Q, 2] or boxes [N, Q, 4]."""
    places = inverse_sigmoid(points)
    count = places.shape[-1]
    return torch.cat([deltas[..., :count] + places, deltas[..., count:]], -1).sigmoid()
