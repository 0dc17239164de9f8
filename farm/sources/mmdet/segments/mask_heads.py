"""The heads of MaskFormer and Mask2Former, for an input without padding."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmdet.models import dense_heads
from mmdet.models.plugins.msdeformattn_pixel_decoder import MSDeformAttnPixelDecoder
from mmdet.models.plugins.pixel_decoder import PixelDecoder, TransformerEncoderPixelDecoder
from torch import Tensor
from torch.nn import functional

from farm.sources.mmdet.parts import require


def check_mask2former(head: Any) -> None:
    """Check that layers and pixel decoder are mmdet's own.

    Raises:
        ValueError: one of them computes something else.
    """
    require(head, dense_heads.Mask2FormerHead, ("forward_head",))
    require(head.pixel_decoder, MSDeformAttnPixelDecoder, ("forward",))


def mask2former_predictions(head: Any, features: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Compute `Mask2FormerHead.forward`: logits [N, Q, C + 1] and mask logits [N, Q, h, w]."""
    pixels, levels = _pixels(head.pixel_decoder, features)
    memories, positions = zip(
        *(_memory(head, i, levels[i]) for i in range(head.num_transformer_feat_level)), strict=True
    )
    images = features[0].shape[0]
    queries = head.query_feat.weight.unsqueeze(1).repeat(1, images, 1)
    embedding = head.query_embed.weight.unsqueeze(1).repeat(1, images, 1)
    logits, masks, hidden = _read(head, queries, pixels, levels[0])
    for i, layer in enumerate(head.transformer_decoder.layers):
        at, following = (n % head.num_transformer_feat_level for n in (i, i + 1))
        queries = layer(
            query=queries,
            key=memories[at],
            value=memories[at],
            query_pos=embedding,
            key_pos=positions[at],
            attn_masks=[_opened(hidden), None],
            query_key_padding_mask=None,
            key_padding_mask=None,
        )
        logits, masks, hidden = _read(head, queries, pixels, levels[following])
    return logits, masks


def _read(
    head: Any, queries: Tensor, pixels: Tensor, level: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`Mask2FormerHead.forward_head`: logits, mask logits, and the attention mask on `level`."""
    found = head.transformer_decoder.post_norm(queries).transpose(0, 1)
    masks = head.mask_embed(found) @ pixels.flatten(2)
    masks = masks.reshape(-1, masks.shape[1], *pixels.shape[2:])
    size = level.shape[-2:]
    coarse = functional.interpolate(masks, size=size, mode="bilinear", align_corners=False)
    hidden = (coarse.sigmoid() < 0.5).flatten(2).unsqueeze(1)
    hidden = hidden.expand(-1, head.num_heads, -1, -1).flatten(0, 1)
    return head.cls_embed(found), masks, hidden


def _opened(hidden: Tensor) -> Tensor:
    """`hidden` bool [N * heads, Q, P], but a query whose pixels are all hidden sees all of them."""
    return hidden & (hidden.to(torch.float32).amin(2, keepdim=True) < 1)


def _memory(head: Any, i: int, level: Tensor) -> tuple[Tensor, Tensor]:
    """The keys of the attention, and their positional encoding: [h * w, N, C] each."""
    memory = _sequence(head.decoder_input_projs[i](level))
    position = head.decoder_positional_encoding(_no_padding(level))
    return memory + head.level_embed.weight[i].view(1, 1, -1), _sequence(position)


def _pixels(decoder: Any, features: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """`MSDeformAttnPixelDecoder.forward`: pixel embeddings [N, C, h, w]; maps, coarse to fine."""
    places = [decoder.num_input_levels - 1 - i for i in range(decoder.num_encoder_levels)]
    outs = _encoded_levels(decoder, [features[place] for place in places], places)
    for i in range(decoder.num_input_levels - decoder.num_encoder_levels - 1, -1, -1):
        lateral = decoder.lateral_convs[i](features[i])
        size = lateral.shape[-2:]
        coarse = functional.interpolate(outs[-1], size=size, mode="bilinear", align_corners=False)
        outs.append(decoder.output_convs[i](lateral + coarse))
    return decoder.mask_feature(outs[-1]), outs[: decoder.num_outs]


def _encoded_levels(decoder: Any, features: list[Tensor], places: list[int]) -> list[Tensor]:
    """The coarse levels after the encoder, in which each pixel attends to all of them.

    Sizes stay tensors, so that they follow the input's size.
    """
    maps = [conv(feature) for conv, feature in zip(decoder.input_convs, features, strict=True)]
    shapes = [torch._shape_as_tensor(one)[2:].to(one.device) for one in maps]
    points = torch.cat([
        _points(decoder, place, one, shape)
        for place, one, shape in zip(places, maps, shapes, strict=True)
    ])  # fmt: skip
    positions = torch.cat([_position(decoder, i, one) for i, one in enumerate(maps)])
    areas = torch.stack(shapes).prod(1)
    memory = decoder.encoder(
        query=torch.cat([_sequence(one) for one in maps]),
        key=None,
        value=None,
        query_pos=positions,
        query_key_padding_mask=None,
        spatial_shapes=torch.stack(shapes),
        reference_points=points.view(1, -1, 1, 2).expand(
            maps[0].shape[0], -1, decoder.num_encoder_levels, -1
        ),
        level_start_index=torch.cat([areas.new_zeros(1), areas.cumsum(0)[:-1]]),
    )
    return _maps(memory.permute(1, 2, 0), maps)


def _points(decoder: Any, place: int, one: Tensor, shape: Tensor) -> Tensor:
    """[h * w, 2]: the centre of each pixel, x and y as fractions of the image."""
    points = decoder.point_generator.single_level_grid_priors(
        one.shape[-2:], place, device=one.device
    )
    return points / (shape.flip(0).to(points.dtype) * decoder.strides[place])


def _position(decoder: Any, i: int, one: Tensor) -> Tensor:
    position = decoder.postional_encoding(_no_padding(one))
    return _sequence(position + decoder.level_encoding.weight[i].view(1, -1, 1, 1))


def _maps(memory: Tensor, like: list[Tensor]) -> list[Tensor]:
    """Splits [N, C, all pixels] into maps of the shapes of `like`."""
    maps, start = [], 0
    for one in like:
        stop = start + one.shape[2] * one.shape[3]
        maps.append(memory[:, :, start:stop].reshape(one.shape))
        start = stop
    return maps


def _no_padding(level: Tensor) -> Tensor:
    return torch.zeros_like(level[:, 0], dtype=torch.bool)


def _sequence(level: Tensor) -> Tensor:
    """[N, C, h, w] -> [h * w, N, C]."""
    return level.flatten(2).permute(2, 0, 1)


def check_maskformer(head: Any) -> None:
    """Check that the pixel decoder can be exported.

    Raises:
        ValueError: its kind is not known here.
    """
    encodes = isinstance(head.pixel_decoder, TransformerEncoderPixelDecoder)
    kind = TransformerEncoderPixelDecoder if encodes else PixelDecoder
    require(head.pixel_decoder, kind, ("forward",))


def maskformer_predictions(head: Any, features: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Compute `MaskFormerHead.forward`: logits [N, Q, C + 1] and mask logits [N, Q, h, w]."""
    last = features[-1]
    padding = _no_padding(last)
    if isinstance(head.pixel_decoder, TransformerEncoderPixelDecoder):
        pixels, memory = _encoded_last(head.pixel_decoder, features, padding)
    else:
        pixels, memory = head.pixel_decoder(features, None)
    memory = _sequence(head.decoder_input_proj(memory))
    embedding = head.query_embed.weight.unsqueeze(1).repeat(1, last.shape[0], 1)
    layers = head.transformer_decoder(
        query=torch.zeros_like(embedding),
        key=memory,
        value=memory,
        key_pos=_sequence(head.decoder_pe(padding)),
        query_pos=embedding,
        key_padding_mask=None,
    )
    queries = layers[-1].transpose(0, 1)
    masks = head.mask_embed(queries) @ pixels.flatten(2)
    return head.cls_embed(queries), masks.reshape(*masks.shape[:2], *pixels.shape[2:])


def _encoded_last(decoder: Any, features: list[Tensor], padding: Tensor) -> tuple[Tensor, Tensor]:
    """`TransformerEncoderPixelDecoder.forward`: pixel embeddings and the encoder's memory."""
    last = decoder.encoder_in_proj(features[-1])
    memory = decoder.encoder(
        query=_sequence(last),
        key=None,
        value=None,
        query_pos=_sequence(decoder.positional_encoding(padding)),
        query_key_padding_mask=None,
    )
    memory = memory.permute(1, 2, 0).reshape(last.shape)
    fine = decoder.encoder_out_proj(memory)
    for i in range(decoder.num_inputs - 2, -1, -1):
        lateral = decoder.lateral_convs[i](features[i])
        fine = lateral + functional.interpolate(fine, size=lateral.shape[-2:], mode="nearest")
        fine = decoder.output_convs[i](fine)
    return decoder.mask_feature(fine), memory
