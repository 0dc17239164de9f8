"""reference: the model's own answers and AP on the prepared images; mmdet's by its test path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.catalog import SOURCES
from farm.datasets import coco, matches
from farm.datasets.prepared import Prepared
from farm.detections import files, raw

if TYPE_CHECKING:
    from farm.sources import Detector
    from farm.specs import ReferenceInputs
    from farm.stages import Context


def run(inputs: ReferenceInputs, context: Context) -> Mapping[str, Any]:
    """Return the model's AP; leave `graph.npz`: the first images' boxes in the network's frame,
    and `matches.npz`: which detections match an object, from which AP over any of the images can
    be computed.

    Where only raw outputs are wanted it leaves `raw.npz`: those of the first images, in batches.

    Raises:
        StepFailed: the model fails on an image, or as `coco.Evaluation`.
    """
    prepared = Prepared(context.artifact(inputs.prepared))
    source = SOURCES[inputs.model.source].adapter()
    source.set_threads(context.threads)
    detector = source.load(inputs.model)
    if inputs.raw_batch is not None:
        return _raw(detector, prepared, inputs.raw_batch, inputs.images, context.folder)
    found = [detector.reference(prepared.image(i), meta) for i, meta in enumerate(prepared.metas)]
    masks = any(one.rles is not None for one in found)
    classes = inputs.classes or detector.facts.classes
    evaluation = coco.Evaluation(prepared.annotations, found, prepared.metas, classes, masks)
    matches.save(context.folder / "matches.npz", evaluation.matches())
    count = min(inputs.images, len(prepared))
    files.save(
        context.folder / "graph.npz",
        [detector.reference_as_graph(prepared.image(i)) for i in range(count)],
    )
    return {**evaluation.figures(), "images": len(prepared), "verify_images": count}


def _raw(
    detector: Detector, prepared: Prepared, batch: int, images: int, folder: Path
) -> Mapping[str, Any]:
    found = []
    for indices, inputs in prepared.batches(batch):
        found.append(detector.raw(inputs))
        if indices.stop >= images:
            break
    raw.save(folder / "raw.npz", found)
    return {"verify_batches": len(found), "outputs": len(found[0])}
