"""COCO's AP by pycocotools, of what the program of a bundle has found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def average_precision(annotations: Path, found: Mapping[str, Any], kind: str = "bbox") -> float:
    """AP of all images. found: what has `boxes`, `scores`, `names`, `masks`, by the file's name."""
    truth = COCO(str(annotations))
    ids = {one["name"]: one["id"] for one in truth.loadCats(truth.getCatIds())}
    results = [
        {**entry, "image_id": image["id"], "category_id": ids[name]}
        for image in truth.loadImgs(truth.getImgIds())
        for name, entry in entries(found[image["file_name"]], kind)
    ]
    evaluation = COCOeval(truth, truth.loadRes(results), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return float(evaluation.stats[0])


def entries(found: Any, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for i, (x1, y1, x2, y2) in enumerate(found.boxes.tolist()):
        entry: dict[str, Any] = {"score": float(found.scores[i])}
        if kind == "segm":
            entry["segmentation"] = coco_mask.encode(np.asfortranarray(found.masks[i], np.uint8))
        else:
            entry["bbox"] = [x1, y1, x2 - x1, y2 - y1]
        yield str(found.names[i]), entry
