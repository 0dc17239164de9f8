"""table.reference: a model with random weights that find objects, and its own answers.

For each size of the inputs it leaves the images as `SIZE.npy` and mmdet's own detections on them as
`SIZE.npz`, so that whoever runs an engine on them needs no PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from farm.detections import files
from farm.detections.matching import match
from farm.errors import InputError, StepFailed
from farm.sources import mmdet
from farm.specs import File
from farm.stages.table import MOVED, WEIGHTS

if TYPE_CHECKING:
    from farm.sources.mmdet import Detector
    from farm.specs import RandomModelInputs
    from farm.stages import Context

_FACTORS = (1 - 2e-7, 1 + 2e-7)


def run(inputs: RandomModelInputs, context: Context) -> Mapping[str, Any]:
    """Leave the checkpoint `model.pth`, the images, the answers, and how these move with an image.

    Returns what decodes the outputs of an engine: `classes`, how many there are, `mask_threshold`
    and `mask_frame`. Of a model that is refused, for its config or since it cannot be exported,
    only `refused`, the reason: that is a result for the table, and no failure of this step.
    """
    mmdet.set_threads(context.threads)
    try:
        detector = _random(inputs, context.folder)
        if detector.facts.refused is not None:
            return {"refused": detector.facts.refused}
        _answer(detector, inputs, context.folder)
    except (InputError, StepFailed) as error:
        # Without the file that it is in: the table names the config.
        text = error.message if isinstance(error, InputError) else str(error)
        return {"refused": text.replace(str(context.folder), "")}
    facts = detector.facts
    return {
        "classes": len(facts.classes),
        "mask_threshold": facts.mask_threshold,
        "mask_frame": facts.mask_frame,
    }


def _random(inputs: RandomModelInputs, folder: Path) -> Detector:
    from farm.sources.mmdet import random_weights

    model = replace(inputs.model, checkpoint=File(str(folder / WEIGHTS), ""))
    random_weights.write(model, dict(inputs.layer_outputs), inputs.shape, inputs.seed)
    return mmdet.load(model)


def _answer(detector: Detector, inputs: RandomModelInputs, folder: Path) -> None:
    from farm.sources.mmdet.random_weights import noise

    answers = {}
    for size in inputs.sizes:
        images = noise(size, inputs.seed)
        answers[size] = [detector.reference_as_graph(one) for one in images]
        np.save(folder / f"{size}.npy", images)
        files.save(folder / f"{size}.npz", answers[size])
    two = replace(inputs.shape, n=2)
    for image, answer, factor, name in zip(
        np.load(folder / f"{two}.npy"), answers[two], _FACTORS, MOVED, strict=True
    ):
        moved = detector.reference_as_graph(image * np.float32(factor))
        np.savez(folder / name, **asdict(match([answer], [moved])))
