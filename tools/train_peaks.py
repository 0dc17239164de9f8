"""Train matrices/sources/peaks.py on drawn shapes, on the CPU, and write its weights and ONNX file.

    python tools/train_peaks.py [--iterations N] [--out DIR]

Writes OUT/peaks.pth, and OUT/peaks.onnx (opset 17, free batch, height and width). Run
`farm run matrices/sources.yaml` for its average precision.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "matrices")]

import numpy as np  # noqa: E402
import sources.peaks as peaks  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn.functional import l1_loss, logsigmoid  # noqa: E402

from farm.datasets.synthetic import CLASSES, Scene, draw_scene  # noqa: E402
from farm.sources import onnx_files  # noqa: E402
from farm.sources.module import Named  # noqa: E402
from farm.specs import (  # noqa: E402
    Dims,
    Shape,
)

SIZE, BATCH, RATE = 160, 8, 4e-3
SEED, COUNT = 1, 800
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=2000, help="how long, in batches")
    parser.add_argument("--out", type=Path, default=ROOT / "matrices" / "sources")
    args = parser.parse_args()
    torch.manual_seed(0)
    scenes = [draw_scene(SEED, number, SIZE) for number in range(1, COUNT + 1)]
    model = peaks.detector(len(CLASSES))
    train(model.heads, scenes, args.iterations)
    torch.save({"state_dict": model.state_dict()}, args.out / "peaks.pth")
    opt = Dims(1, 3, SIZE, SIZE)
    free = Shape("free", Dims(1, 3, 32, 32), opt, Dims(8, 3, 640, 640))
    onnx_files.write(Named(model, raw=False).eval(), free, 17, args.out / "peaks.onnx")


def train(heads: peaks.Heads, scenes: list[Scene], iterations: int) -> None:
    optimizer = torch.optim.AdamW(heads.parameters(), lr=RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, iterations, pct_start=0.1)
    began = time.monotonic()
    heads.train()
    for done, batch in zip(range(1, iterations + 1), batches(scenes), strict=False):
        optimizer.zero_grad()
        value = loss(heads(images_of(batch)), *targets(batch))
        torch.autograd.backward(value)
        torch.nn.utils.clip_grad_norm_(heads.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        if done % 100 == 0:
            print(f"{done}/{iterations}  {time.monotonic() - began:.0f} s  {value:.3f}", flush=True)
    heads.eval()


def batches(scenes: list[Scene]) -> Iterator[list[Scene]]:
    """Without end, scenes turned by a multiple of 90 degrees and flipped or not, at random."""
    rng = np.random.default_rng(0)
    while True:
        order = rng.permutation(len(scenes))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            yield [turned(scenes[i], rng) for i in order[start : start + BATCH]]


def turned(scene: Scene, rng: np.random.Generator) -> Scene:
    turns, flip = int(rng.integers(4)), int(rng.choice([-1, 1]))
    image = np.rot90(scene.image, turns)[:, ::flip]
    return Scene(image, scene.labels, np.rot90(scene.masks, turns, axes=(1, 2))[:, :, ::flip])


def images_of(scenes: list[Scene]) -> Tensor:
    """[N, 3, H, W] in RGB, as the matrix's `preprocess` makes them."""
    rgb = np.stack([scene.image[:, :, ::-1] for scene in scenes]).astype(np.float32)
    images = (rgb - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def targets(scenes: list[Scene]) -> tuple[Tensor, Tensor, Tensor]:
    """heat [N, C, h, w], 1 at each centre, less around it; boxes [N, 4, h, w] and where they count.

    The four are extent (its logarithm) and offset, in cells; the smallest object comes last, so
    that of two centres in one cell it is the one that is seen.
    """
    cells = SIZE // peaks.STRIDE
    heat = np.zeros((len(scenes), len(CLASSES), cells, cells), np.float32)
    boxes = np.zeros((len(scenes), 4, cells, cells), np.float32)
    counts = np.zeros((len(scenes), 1, cells, cells), np.float32)
    y, x = np.mgrid[:cells, :cells] + 0.5
    for n, scene in enumerate(scenes):
        for i in np.argsort(-scene.masks.sum((1, 2))):
            rows, columns = (np.flatnonzero(scene.masks[i].any(axis)) for axis in (1, 0))
            low = np.array([columns[0], rows[0]]) / peaks.STRIDE
            high = np.array([columns[-1] + 1, rows[-1] + 1]) / peaks.STRIDE
            centre, extent = (low + high) / 2, high - low
            column, row = np.minimum(centre.astype(int), cells - 1)
            spread = np.maximum(extent / 8, 0.4)
            distance = ((x - column - 0.5) / spread[0]) ** 2 + ((y - row - 0.5) / spread[1]) ** 2
            label = scene.labels[i]
            heat[n, label] = np.maximum(heat[n, label], np.exp(-distance / 2))
            near = distance < 2
            offset = np.stack([centre[0] - x, centre[1] - y])
            sizes = np.broadcast_to(np.log(extent)[:, None, None], offset.shape)
            boxes[n, :, near] = np.concatenate([sizes, offset])[:, near].T
            counts[n, 0, near] = 1
    return torch.from_numpy(heat), torch.from_numpy(boxes), torch.from_numpy(counts)


def loss(
    found: tuple[Tensor, Tensor, Tensor], heat: Tensor, boxes: Tensor, counts: Tensor
) -> Tensor:
    """CornerNet's focal loss of the heat map, and the distance of extents and offsets."""
    logits, extent, offset = found
    score, objects = logits.sigmoid(), (heat == 1).sum().clamp(min=1)
    hit = (1 - score) ** 2 * -logsigmoid(logits) * (heat == 1)
    miss = score**2 * (1 - heat) ** 4 * -logsigmoid(-logits) * (heat < 1)
    away = l1_loss(torch.cat([extent, offset], 1) * counts, boxes * counts, reduction="sum")
    return (hit + miss).sum() / objects + away / counts.sum().clamp(min=1)


if __name__ == "__main__":
    main()
