"""evaluate: COCO AP of the very engine that is verified and measured."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from farm.datasets import coco
from farm.datasets.prepared import Prepared
from farm.detections import Detections
from farm.detections.convert import from_outputs, to_original
from farm.specs import EvaluateInputs
from farm.stages import Context
from farm.stages.engines import batch_size, opened


def run(inputs: EvaluateInputs, context: Context) -> Mapping[str, Any]:
    prepared = Prepared(context.artifact(inputs.prepared))
    found: list[Detections] = []
    masks = False
    with opened(inputs.engine, context, context.threads) as session:
        started = time.perf_counter()
        for indices, images in prepared.batches(batch_size(inputs.engine)):
            outputs = session.run(images)
            masks = "masks" in outputs
            for i, one in zip(indices, from_outputs(outputs), strict=False):
                found.append(
                    to_original(
                        one,
                        prepared.metas[i],
                        inputs.clip,
                        inputs.mask_threshold,
                        inputs.mask_frame,
                    )
                )
        seconds = time.perf_counter() - started
    figures = coco.average_precision(
        prepared.annotations, found, prepared.metas, inputs.classes, masks
    )
    return {**figures, "images": len(prepared), "images_per_s": len(prepared) / seconds}
