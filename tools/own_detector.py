"""Files of somebody's own detector, for docs/tour.md: a config, a checkpoint, images, annotations.

    python tools/own_detector.py FOLDER

It finds parts of hardware: washers, hex nuts and bolts, which are the circles, squares and
triangles of the drawn images. The weights are those of the demo's detector without the output for
stars, so that nothing has to be trained. As in real files, the config's `classes` are in another
order than the categories of the annotation files, by which MMDetection numbers the labels.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from farm.datasets import synthetic  # noqa: E402

CATEGORIES = {1: (10, "washer"), 2: (20, "hex nut"), 3: (35, "bolt")}
"""Ids and names, by the drawn data set's ids of circle, square and triangle."""

CONFIG = """\
# RetinaNet with three classes, on pictures of hardware.
_base_ = {base!r}
classes = ("bolt", "hex nut", "washer")
model = dict(bbox_head=dict(num_classes=3))
root = {root!r}
data = dict(
    train=dict(type="CocoDataset", classes=classes, ann_file=root + "/train.json",
               img_prefix=root + "/train/images"),
    test=dict(type="CocoDataset", classes=classes, ann_file=root + "/val.json",
              img_prefix=root + "/val/images"),
)
"""


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, count, seed in (("train", 16, 1), ("val", 32, 7)):
        synthetic.draw(folder / name, count, seed, 160)
        drawn = json.loads((folder / name / "annotations.json").read_text())
        (folder / f"{name}.json").write_text(json.dumps(of_parts(drawn)))
    base = os.path.relpath(PROJECT / "matrices" / "demo" / "onestage.py", folder)
    (folder / "parts.py").write_text(CONFIG.format(base=base, root=str(folder.resolve())))
    torch.save(weights(), folder / "parts.pth")
    print(f"{folder}: parts.py, parts.pth, train.json, val.json and their images")


def of_parts(drawn: dict[str, Any]) -> dict[str, Any]:
    """Annotations of the drawn images as those of parts; stars are not annotated."""
    objects = [
        {**one, "category_id": CATEGORIES[one["category_id"]][0]}
        for one in drawn["annotations"]
        if one["category_id"] in CATEGORIES
    ]
    categories = [{"id": id_, "name": name} for id_, name in CATEGORIES.values()]
    return {**drawn, "annotations": objects, "categories": categories}


def weights() -> dict[str, Any]:
    """The demo's checkpoint without the last of the four classes."""
    path = PROJECT / "matrices" / "demo" / "onestage.pth"
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    state = checkpoint["state_dict"]
    for name in ("bbox_head.retina_cls.weight", "bbox_head.retina_cls.bias"):
        by_class = state[name].unflatten(0, (-1, len(synthetic.CLASSES)))
        state[name] = by_class[:, : len(CATEGORIES)].flatten(0, 1).clone()
    return {"state_dict": state, "meta": {"CLASSES": ("bolt", "hex nut", "washer")}}


if __name__ == "__main__":
    main()
