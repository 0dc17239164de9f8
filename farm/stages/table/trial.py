"""table.trial: an engine's detections against those of the random model, as raw numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from farm.detections import files
from farm.detections.matching import match
from farm.stages.engines import opened
from farm.stages.inference import Decoding, detect, network_batch

if TYPE_CHECKING:
    from farm.specs import TrialInputs
    from farm.stages import Context


def run(inputs: TrialInputs, context: Context) -> Mapping[str, Any]:
    """Leave `SIZE.npz` for each size: every box of either side with its partner.

    Raises:
        WrongOutputs: the outputs have not the form of detections.
        LabelOutOfRange: the engine finds a class that the model does not have.
        StepFailed: the engine cannot run.
    """
    reference = context.artifact(inputs.reference)
    decoding = Decoding(inputs.classes, False, inputs.mask_threshold, inputs.mask_frame)
    boxes = 0
    with opened(inputs.engine, context, context.threads) as session:
        for size in inputs.sizes:
            batch = network_batch(np.load(reference / f"{size}.npy"))
            found = list(detect(session, [batch], decoding))
            pairs = match(files.load(reference / f"{size}.npz"), found)
            np.savez(context.folder / f"{size}.npz", **asdict(pairs))
            boxes += int(np.isfinite(pairs.reference_score).sum())
    return {"boxes": boxes}
