"""Any annotation file: evaluated rightly, or a reason."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import annotation_strategies as made
import numpy as np
import pytest
from bounds import fuzzed, leaving_no_trace, printable

from farm.datasets.annotations import load_annotations
from farm.datasets.coco import average_precision, check_classes
from farm.detections import Detections, ImageMeta
from farm.errors import InputError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def loaded(folder: Path, data: bytes) -> dict[str, Any]:
    path = folder / "annotations.json"
    path.write_bytes(data)
    with leaving_no_trace(folder):
        return load_annotations(path)


def box_ap(folder: Path, document: dict[str, Any], perfect: bool) -> float | None:
    """AP of a detector that finds each object but crowds, or none."""
    path, side = folder / "kept.json", made.SIDE
    path.write_text(json.dumps(document))
    names = [one["name"] for one in document["categories"]]
    labels = {one["id"]: i for i, one in enumerate(document["categories"])}
    metas, found = [], []
    for image in document["images"]:
        sizes = (side, side) * 3
        metas.append(ImageMeta(image["id"], image["file_name"], *sizes, 1.0, 1.0))
        own = [
            (one["bbox"], labels[one["category_id"]])
            for one in document["annotations"]
            if perfect and one["image_id"] == image["id"] and not one["iscrowd"]
        ]
        boxes = np.array([[x, y, x + w, y + h] for (x, y, w, h), _ in own], np.float32)
        scores = np.ones(len(own), np.float32)
        numbers = np.array([label for _, label in own], np.int64)
        found.append(Detections(boxes.reshape(-1, 4), scores, numbers))
    with leaving_no_trace(folder), contextlib.redirect_stdout(io.StringIO()):
        return average_precision(path, found, metas, names, False)["box_ap"]


@fuzzed(made.right(), share=1 / 2)
def test_a_perfect_detector_has_ap_1_and_an_empty_one_0(
    folder: Path, document: dict[str, Any]
) -> None:
    kept = loaded(folder, json.dumps(document).encode())
    for kind, known in document.items():
        assert len(kept[kind]) == len(known)
    if any(not one["iscrowd"] for one in kept["annotations"]):
        assert box_ap(folder, kept, perfect=True) == pytest.approx(1, abs=1e-9)
        assert box_ap(folder, kept, perfect=False) == 0
    else:
        assert box_ap(folder, kept, perfect=True) in (0, None)


@fuzzed(made.spoilt(), share=1 / 2)
def test_a_spoilt_file_is_evaluated_or_refused(folder: Path, data: bytes) -> None:
    try:
        kept = loaded(folder, data)
        check_classes(kept, [str(one["name"]) for one in kept["categories"]], "m.json")
        figure = box_ap(folder, kept, perfect=True)
    except InputError as error:
        printable(error)
    else:
        assert figure is None or 0 <= figure <= 1
