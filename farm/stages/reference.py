"""reference: PyTorch's own detections and AP on the prepared images, by mmdet's own test path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from farm.datasets import coco
from farm.datasets.prepared import Prepared
from farm.detections import files
from farm.inputs import ReferenceInputs
from farm.sources import source_module
from farm.stages import Context


def run(inputs: ReferenceInputs, context: Context) -> Mapping[str, Any]:
    """Leaves `graph.npz`: the first images as an exported graph would see them (verify's side)."""
    torch.set_num_threads(context.threads)
    prepared = Prepared(context.artifact(inputs.prepared))
    detector = source_module(inputs.model.source).load(inputs.model)
    facts = detector.facts
    found = [detector.reference(prepared.image(i), meta) for i, meta in enumerate(prepared.metas)]
    figures = coco.average_precision(
        prepared.annotations, found, prepared.metas, facts.classes, facts.masks
    )
    count = min(inputs.images, len(prepared))
    files.save(
        context.folder / "graph.npz",
        [detector.reference_as_graph(prepared.image(i)) for i in range(count)],
    )
    return {**figures, "images": len(prepared), "verify_images": count}
