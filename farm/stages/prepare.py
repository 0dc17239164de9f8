"""prepare: decode, resize and normalise every image once, by the model's own test pipeline."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from farm.datasets import open_dataset
from farm.datasets.annotations import load_annotations
from farm.datasets.prepared import PreparedWriter
from farm.preprocess import preparer
from farm.specs import CocoDataset, OtherDataset, PrepareInputs

if TYPE_CHECKING:
    from farm.stages import Context


def run(inputs: PrepareInputs, context: Context) -> Mapping[str, Any]:
    """Leave `images.bin`, `images.json` and `annotations.json`.

    Raises:
        InputError: the annotation file is wrong.
        StepFailed: an image cannot be decoded or prepared.
    """
    drawn = context.folder / "drawn"
    images, annotation_file = open_dataset(inputs.dataset, drawn)
    dataset = inputs.dataset
    limit = dataset.limit if isinstance(dataset, CocoDataset | OtherDataset) else None
    annotations = load_annotations(annotation_file, limit)
    prepare = preparer(inputs.pipeline, inputs.shape, inputs.sizes)
    with PreparedWriter(context.folder) as writer:
        for image in annotations["images"]:
            name = image["file_name"]
            writer.add(*prepare(str(images / name), image["id"], name))
    (context.folder / "annotations.json").write_text(json.dumps(annotations))
    shutil.rmtree(drawn, ignore_errors=True)  # the drawn pixels are in images.bin now
    return {"images": len(annotations["images"])}
