"""MaskFormer's head, for an input that counts as image everywhere: no padding is masked."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmdet.models.plugins.pixel_decoder import PixelDecoder, TransformerEncoderPixelDecoder
from torch import Tensor
from torch.nn import functional

from farm.sources.mmdet.two_stage.parts import require


def check(head: Any) -> None:
    """Check that the pixel decoder can be exported.

    Raises:
        ValueError: its kind is not known here.
    """
    encodes = isinstance(head.pixel_decoder, TransformerEncoderPixelDecoder)
    kind = TransformerEncoderPixelDecoder if encodes else PixelDecoder
    require(head.pixel_decoder, kind, ("forward",))


def predictions(head: Any, features: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Compute `MaskFormerHead.forward`: logits [N, Q, C + 1] and mask logits [N, Q, h, w]."""
    last = features[-1]
    padding = torch.zeros_like(last[:, 0], dtype=torch.bool)
    if isinstance(head.pixel_decoder, TransformerEncoderPixelDecoder):
        pixels, memory = _encoded(head.pixel_decoder, features, padding)
    else:
        pixels, memory = head.pixel_decoder(features, None)
    memory = head.decoder_input_proj(memory).flatten(2).permute(2, 0, 1)
    embedding = head.query_embed.weight.unsqueeze(1).repeat(1, last.shape[0], 1)
    layers = head.transformer_decoder(
        query=torch.zeros_like(embedding),
        key=memory,
        value=memory,
        key_pos=head.decoder_pe(padding).flatten(2).permute(2, 0, 1),
        query_pos=embedding,
        key_padding_mask=None,
    )
    queries = layers[-1].transpose(0, 1)
    masks = head.mask_embed(queries) @ pixels.flatten(2)
    return head.cls_embed(queries), masks.reshape(*masks.shape[:2], *pixels.shape[2:])


def _encoded(decoder: Any, features: list[Tensor], padding: Tensor) -> tuple[Tensor, Tensor]:
    """`TransformerEncoderPixelDecoder.forward`: pixel embeddings and the encoder's memory."""
    last = decoder.encoder_in_proj(features[-1])
    memory = decoder.encoder(
        query=last.flatten(2).permute(2, 0, 1),
        key=None,
        value=None,
        query_pos=decoder.positional_encoding(padding).flatten(2).permute(2, 0, 1),
        query_key_padding_mask=None,
    )
    memory = memory.permute(1, 2, 0).reshape(last.shape)
    fine = decoder.encoder_out_proj(memory)
    for i in range(decoder.num_inputs - 2, -1, -1):
        lateral = decoder.lateral_convs[i](features[i])
        fine = lateral + functional.interpolate(fine, size=lateral.shape[-2:], mode="nearest")
        fine = decoder.output_convs[i](fine)
    return decoder.mask_feature(fine), memory
