"""PyTorch's AP on a few images under several orders of the labels: a help to choose by."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from farm.datasets import coco
from farm.datasets.annotations import Document, Entry
from farm.errors import in_one_line
from farm.inputs import CheckInputs
from farm.sources import source_module
from farm.stages import examples

log = logging.getLogger(__name__)


def compared(inputs: CheckInputs, document: Document, orders: Mapping[str, tuple[str, ...]]) -> str:
    """A clause for people, also where it cannot be told: no more than a help fails then.

    document: the data set's annotations, if it has a file.
    """
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.redirect_stdout(io.StringIO()),
        ):
            values = _values(inputs, document, orders, Path(folder))
    except Exception as error:  # any model's own code on any image
        log.warning("no AP under each order", exc_info=True)
        return f"PyTorch's AP under each could not be found ({in_one_line(error)})"
    told = ", ".join(f"{value:.4f} with {name}" for name, value in values.items())
    return f"PyTorch's box AP on up to {examples.MOST} images: {told}"


def _values(
    inputs: CheckInputs, document: Document, orders: Mapping[str, tuple[str, ...]], folder: Path
) -> dict[str, float]:
    assert inputs.dataset is not None
    data = examples.opened(inputs.dataset, document, folder)
    best = _fullest(data.document)
    annotations = folder / "few.json"
    annotations.write_text(json.dumps(_only(data.document, best)))
    source = source_module(inputs.model.source)
    detector = source.load(inputs.model)
    found, metas = [], []
    for pixels, meta in data.prepared(best, detector.facts.pipeline, source.size(inputs.model)):
        found.append(detector.reference(pixels.astype("float32", copy=False), meta))
        metas.append(meta)
    return {
        name: coco.average_precision(annotations, found, metas, order, False)["box_ap"] or 0.0
        for name, order in orders.items()
    }


def _fullest(document: Document) -> list[Entry]:
    """The images with most objects."""
    objects = Counter(one["image_id"] for one in document["annotations"])
    return sorted(document["images"], key=lambda one: -objects[one["id"]])[: examples.MOST]


def _only(document: Document, images: list[Entry]) -> Document:
    kept = {one["id"] for one in images}
    rows = [one for one in document["annotations"] if one["image_id"] in kept]
    return {**document, "images": images, "annotations": rows}
