"""Draw the models and images of `matrices/gpu.yaml` by seed: mmdet's own configs at full size.

    python tools/random_models.py tools/gpu_models.yaml build/gpu-models

Nothing is downloaded. The weights detect noise: speed and agreement with PyTorch mean something,
AP does not.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import cv2
import numpy as np
import torch
from mmdet.datasets import CocoDataset
from torch import nn

from farm import specs
from farm.models import families
from farm.plan.content.configs import config_file
from farm.preprocess import preparer
from farm.run import guarded
from farm.sources.mmdet import config, random_weights
from farm.sources.mmdet.data import test_data
from farm.specs import Dims

SIZES = ((160, 160), (128, 160), (128, 160))
"""Height and width of the images, which the test pipelines enlarge."""

MEAN, SPREAD = 118, 57
"""Of the pixels: what the usual normalisations turn into 0 and 1."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tools/random_models.py", description=__doc__)
    parser.add_argument("table", type=Path, help="the models, as in farm/models/families.yaml")
    parser.add_argument(
        "folder", type=Path, help="gets NAME.pth of each, images/, annotations.json"
    )
    parser.add_argument("names", nargs="*", help="only these models")
    return guarded(_draw, parser.parse_args())


def _draw(options: argparse.Namespace) -> int:
    chosen = families.chosen(options.names, families.read(options.table))
    torch.set_num_threads(1)
    draw_images(options.folder)
    for family in chosen:
        path = options.folder / f"{family.name}.pth"
        if not path.exists():
            write(family, options.folder, path)
        print(path)
    return 0


def draw_images(folder: Path, seed: int = 1) -> None:
    """Draw images of noise at several scales with some boxes, in COCO's format and classes.

    They have equal brightness and contrast: a random network is invariant to neither.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    categories = [{"id": i, "name": name} for i, name in enumerate(CocoDataset.CLASSES, start=1)]
    for number, (height, width) in enumerate(SIZES, start=1):
        noise = random_weights.noise(Dims(1, 3, height, width), seed + number)[0]
        pixels = np.clip(np.rint(MEAN + SPREAD * noise.transpose(1, 2, 0)), 0, 255)
        name = f"{number:06d}.png"
        if not cv2.imwrite(str(folder / "images" / name), pixels.astype(np.uint8)):
            raise OSError(f"{folder / 'images' / name}: could not be written")
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for _ in range(4):
            box = *random.integers(0, 80, 2).tolist(), *random.integers(10, 40, 2).tolist()
            category = int(random.integers(len(categories))) + 1
            annotations.append(_annotation(len(annotations) + 1, number, category, box))
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(document))


def _annotation(
    number: int, image: int, category: int, box: tuple[int, int, int, int]
) -> dict[str, Any]:
    x, y, w, h = box
    outline = [x, y, x + w, y, x + w, y + h, x, y + h]
    return {
        "id": number, "image_id": image, "category_id": category, "bbox": list(box),
        "area": w * h, "iscrowd": 0, "segmentation": [outline],
    }  # fmt: skip


def write(family: families.Family, folder: Path, path: Path) -> None:
    """Write the checkpoint of a family, scaled on the images as its pipeline prepares them."""
    model = specs.Model(
        family.name, "mmdet", config_file(family.config, Path()), specs.File(str(path), ""),
        tuple(family.options.items()),
    )  # fmt: skip
    steps = test_data.canonical_pipeline(config.read(model), model.config.path)
    shape = specs.Shape("fixed", family.shape, family.shape, family.shape)
    prepare = preparer(steps, shape)
    images = [
        prepare(str(one), 0, one.name)[0] for one in sorted((folder / "images").iterdir())[:2]
    ]
    batch = np.stack(images).astype(np.float32)
    random_weights.write_for(model, family.layer_outputs, batch, family.seed, _correct)
    _spread_boxes(path)


def _spread_boxes(path: Path) -> None:
    """Enlarge the boxes of YOLOv3, whose boxes and scores are in one layer."""
    kept = torch.load(path, weights_only=True)
    for name, bias in kept["state_dict"].items():
        if "convs_pred" in name and name.endswith("bias"):
            boxes = bias.view(3, -1)[:, :4]  # of each anchor: x y w h, then the scores
            boxes -= boxes.mean()
    torch.save(kept, path)


@torch.no_grad()
def _correct(detector: nn.Module) -> None:
    """Let residual branches of Darknet add a fifth, as `random_weights` does for ResNets."""
    module: Any
    for module in detector.modules():
        if type(module).__name__ in ("DarknetBottleneck", "ResBlock"):
            last = getattr(module.conv2, "pointwise_conv", module.conv2)
            nn.init.constant_(last.bn.weight, 0.2)


if __name__ == "__main__":
    sys.exit(main())
