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

from farm import catalog
from farm.datasets import coco, open_dataset
from farm.datasets.annotations import load_annotations
from farm.inputs import CheckInputs, Dataset, Shape, ShapesDataset
from farm.sources import source_module
from farm.units import Dims

log = logging.getLogger(__name__)

IMAGES = 8
_USUAL = Dims(1, 3, 512, 512)


def compared(inputs: CheckInputs, orders: Mapping[str, tuple[str, ...]]) -> str:
    """A clause for people, also where it cannot be told: no more than a help fails then."""
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.redirect_stdout(io.StringIO()),
        ):
            values = _values(inputs, orders, Path(folder))
    except Exception as error:  # any model's own code on any image
        log.warning("no AP under each order", exc_info=True)
        return f"PyTorch's AP under each could not be found ({type(error).__name__}: {error})"
    told = ", ".join(f"{value:.4f} with {name}" for name, value in values.items())
    return f"PyTorch's box AP on up to {IMAGES} images: {told}"


def _values(
    inputs: CheckInputs, orders: Mapping[str, tuple[str, ...]], folder: Path
) -> dict[str, float]:
    assert inputs.dataset is not None
    images, annotations = _few(inputs.dataset, folder)
    source = source_module(inputs.model.source)
    detector, size = source.load(inputs.model), source.size(inputs.model) or _USUAL
    free = Shape("few", Dims(1, 3, 1, 1), size, Dims(1, 3, 1 << 16, 1 << 16))
    prepare = source_module(catalog.PREPARER).Preparer(detector.facts.pipeline, free)
    found, metas = [], []
    for image in json.loads(annotations.read_text())["images"]:
        name = image["file_name"]
        pixels, meta = prepare(str(images / name), image["id"], name)
        found.append(detector.reference(pixels.astype("float32", copy=False), meta))
        metas.append(meta)
    return {
        name: coco.average_precision(annotations, found, metas, order, False)["box_ap"] or 0.0
        for name, order in orders.items()
    }


def _few(dataset: Dataset, folder: Path) -> tuple[Path, Path]:
    """The image folder, and annotations of the images with most objects."""
    if isinstance(dataset, ShapesDataset):
        dataset = ShapesDataset(min(dataset.count, IMAGES), dataset.seed, dataset.size)
    images, file = open_dataset(dataset, folder / "drawn")
    full = load_annotations(file, getattr(dataset, "limit", None))
    objects = Counter(one["image_id"] for one in full["annotations"])
    best = sorted(full["images"], key=lambda one: -objects[one["id"]])[:IMAGES]
    kept = {one["id"] for one in best}
    rows = [one for one in full["annotations"] if one["image_id"] in kept]
    annotations = folder / "few.json"
    annotations.write_text(json.dumps({**full, "images": best, "annotations": rows}))
    return images, annotations
