"""evaluate: COCO AP of the very engine that is verified and measured."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from farm.datasets import matches
from farm.datasets.prepared import Prepared
from farm.datasets.resampling import drop_figures
from farm.stages.engines import batch_size, opened
from farm.stages.inference import Decoding, detect_all, prepared_batches
from farm.stages.racing import Race, evaluation, up_to

if TYPE_CHECKING:
    from farm.detections import Detections
    from farm.specs import EvaluateInputs
    from farm.stages import Context


def run(inputs: EvaluateInputs, context: Context) -> Mapping[str, Any]:
    """Return the AP figures, the interval of their drop, and the speed over all images.

    Leave `matches.npz`: which detections match an object, from which AP over any of the images can
    be computed.

    `images_per_s` is that of the whole loop by the clock, from the first image's loading until the
    last one is decoded; AP is not in it. Of an engine that was stopped early AP is not known: there
    are the interval of its drop on the `images` that were run, and `stopped_early`.

    Raises:
        LabelOutOfRange: the engine finds a class that the model does not have.
        StepFailed: as `coco.Evaluation`.
    """
    prepared = Prepared(context.artifact(inputs.prepared))
    reference = matches.load(context.artifact(inputs.reference) / "matches.npz")
    race = Race(prepared, reference, inputs.classes, inputs.max_ap_drop)
    found, seconds = _detected(inputs, context, prepared, race)
    evaluated = evaluation(prepared, found, inputs.classes)
    own = evaluated.matches()
    matches.save(context.folder / "matches.npz", own)
    ran = {"images": len(found), "images_per_s": len(found) / seconds}
    if len(found) == len(prepared):
        return {**evaluated.figures(), **drop_figures(reference, own), **ran}
    return {**drop_figures(race.so_far(len(found)), own), **ran, "stopped_early": True}


def _detected(
    inputs: EvaluateInputs, context: Context, prepared: Prepared, race: Race
) -> tuple[list[Detections], float]:
    """Run the engine, until it is done or out of the race; the seconds are those of its loop."""
    decoding = Decoding(
        len(inputs.classes),
        inputs.clip,
        inputs.mask_threshold,
        inputs.mask_frame,
        inputs.engine.suppression,
    )
    found: list[Detections] = []
    seconds = 0.0
    with opened(inputs.engine, context, context.threads, suppresses=False) as session:
        batches = prepared_batches(prepared, batch_size(inputs.engine))
        for stop in race.stops():
            started = time.perf_counter()
            part = up_to(batches, stop - len(found))
            found += detect_all(session, part, decoding, context.threads)
            seconds += time.perf_counter() - started
            if race.is_lost(found):
                break
    return found, seconds
