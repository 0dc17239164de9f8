"""evaluate: COCO AP of the very engine that is verified and measured."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from farm.datasets import coco, matches
from farm.datasets.prepared import Prepared
from farm.datasets.resampling import drop_figures
from farm.stages.engines import batch_size, opened
from farm.stages.inference import Decoding, detect_all, prepared_batches

if TYPE_CHECKING:
    from farm.specs import EvaluateInputs
    from farm.stages import Context


def run(inputs: EvaluateInputs, context: Context) -> Mapping[str, Any]:
    """Return the AP figures, the interval of their drop, and the speed over all images.

    Leave `matches.npz`: which detections match an object, from which AP over any of the images can
    be computed.

    `images_per_s` is that of the whole loop by the clock, from the first image's loading until the
    last one is decoded; AP is not in it.

    Raises:
        LabelOutOfRange: the engine finds a class that the model does not have.
        StepFailed: as `coco.Evaluation`.
    """
    prepared = Prepared(context.artifact(inputs.prepared))
    decoding = Decoding(
        len(inputs.classes),
        inputs.clip,
        inputs.mask_threshold,
        inputs.mask_frame,
        inputs.engine.suppression,
    )
    threads = context.threads
    with opened(inputs.engine, context, threads, suppresses=False) as session:
        started = time.perf_counter()
        batches = prepared_batches(prepared, batch_size(inputs.engine))
        found = detect_all(session, batches, decoding, threads)
        seconds = time.perf_counter() - started
    masks = any(one.rles is not None for one in found)
    evaluation = coco.Evaluation(prepared.annotations, found, prepared.metas, inputs.classes, masks)
    own = evaluation.matches()
    matches.save(context.folder / "matches.npz", own)
    reference = matches.load(context.artifact(inputs.reference) / "matches.npz")
    figures = evaluation.figures() | drop_figures(reference, own)
    return {**figures, "images": len(prepared), "images_per_s": len(prepared) / seconds}
