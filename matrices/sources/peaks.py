"""A detector without mmdet: objects as peaks of a heat map (after CenterNet), in plain PyTorch.

`detector` returns it whole, `heads` without its last step. Trained by tools/train_peaks.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

STRIDE = 4
MOST = 50
LEAST_SCORE = 0.02


def detector(classes: int = 4) -> nn.Module:
    return Detector(Heads(classes))


def heads(classes: int = 4) -> tuple[nn.Module, tuple[int | None, ...]]:
    """Of the same weights; with the shape of its input: any batch, any height and width."""
    return OnlyHeads(Heads(classes)), (None, 3, None, None)


class Heads(nn.Module):
    """images [N, 3, H, W] -> heat [N, C, h, w] (logits), extent and offset [N, 2, h, w] (cells)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.at2, self.at4 = _block(3, 8, 2), _block(8, 16, 2)
        self.at8, self.at16 = _block(16, 32, 2), _block(32, 48, 2)
        self.up8, self.up4 = _block(48 + 32, 32, 1), _block(32 + 16, 24, 1)
        self.heat, self.extent, self.offset = (nn.Conv2d(24, n, 1) for n in (classes, 2, 2))
        nn.init.constant_(self.heat.bias, -4.0)  # nearly every cell is background

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        at4 = self.at4(self.at2(images))
        at8 = self.at8(at4)
        found = self.up8(torch.cat([_enlarged(self.at16(at8), at8), at8], 1))
        found = self.up4(torch.cat([_enlarged(found, at4), at4], 1))
        return self.heat(found), self.extent(found), self.offset(found)


class OnlyHeads(nn.Module):
    def __init__(self, heads: Heads) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.heads(images)


class Detector(nn.Module):
    """images [N, 3, H, W] -> dets [N, K, 5] (x1 y1 x2 y2 score), labels [N, K] (-1: empty)."""

    def __init__(self, heads: Heads) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, extent, offset = self.heads(images)
        heat = logits.sigmoid()
        heat = heat * (max_pool2d(heat, 3, 1, 1) == heat)
        scores, place = heat.flatten(1).topk(MOST)
        cells, width = heat.shape[2] * heat.shape[3], heat.shape[3]
        label, cell = place // cells, place % cells
        corner = torch.stack([cell % width, cell // width], 2).float()
        centre = corner + 0.5 + _at(offset, cell)
        half = _at(extent, cell).exp() / 2
        boxes = torch.cat([centre - half, centre + half], 2) * STRIDE
        scores = scores * (scores > LEAST_SCORE)
        dets = torch.cat([boxes, scores.unsqueeze(2)], 2)
        return dets, torch.where(scores > 0, label, torch.full_like(label, -1))


def _block(channels: int, out: int, stride: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, stride, 1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
        nn.Conv2d(out, out, 3, 1, 1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )


def _enlarged(features: Tensor, like: Tensor) -> Tensor:
    return interpolate(features, size=like.shape[2:], mode="nearest")


def _at(values: Tensor, cell: Tensor) -> Tensor:
    """[N, 2, h, w] and [N, K] -> [N, K, 2]."""
    index = cell.unsqueeze(1).expand(-1, 2, -1)
    return values.flatten(2).gather(2, index).transpose(1, 2)
