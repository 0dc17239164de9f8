"""verify: the engine's outputs against the reference's on real images, as raw numbers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from farm.datasets.prepared import Prepared
from farm.detections import files, raw
from farm.detections.matching import match
from farm.stages.engines import batch_size, opened
from farm.stages.inference import Decoding, detect, in_network_frame, prepared_batches

if TYPE_CHECKING:
    from farm.specs import VerifyInputs
    from farm.stages import Context


def run(inputs: VerifyInputs, context: Context) -> Mapping[str, Any]:
    """Leave `pairs.npz`: every box of either side with its partner, before any threshold; and
    `detections.npz`: the engine's boxes by image and its masks, pasted into the network's input,
    to draw them beside PyTorch's.

    Images run in batches of `opt`'s size, which is the size that is measured. For an engine of raw
    outputs the file is `raw.npz`: how far each output is from the reference's.

    Raises:
        WrongOutputs: the outputs have not the form of detections.
        LabelOutOfRange: the engine finds a class that the model does not have.
        StepFailed: the engine cannot run.
    """
    if inputs.engine.postprocess == "none":
        return _raw(inputs, context)
    prepared = Prepared(context.artifact(inputs.prepared))
    references = files.load(context.artifact(inputs.reference) / "graph.npz")
    classes = inputs.classes or None
    decoding = Decoding(classes, False, inputs.mask_threshold, inputs.mask_frame)
    batches = in_network_frame(prepared_batches(prepared, inputs.engine.options.shape.opt.n))
    with opened(inputs.engine, context, context.threads) as session:
        found = list(itertools.islice(detect(session, batches, decoding), len(references)))
    pairs = match(references, found)
    np.savez(context.folder / "pairs.npz", **asdict(pairs))
    files.save(context.folder / "detections.npz", found)
    return {"images": len(references), "boxes": int(np.isfinite(pairs.reference_score).sum())}


def _raw(inputs: VerifyInputs, context: Context) -> Mapping[str, Any]:
    prepared = Prepared(context.artifact(inputs.prepared))
    references = raw.load(context.artifact(inputs.reference) / "raw.npz")
    batches = itertools.islice(prepared.batches(batch_size(inputs.engine)), len(references))
    with opened(inputs.engine, context, context.threads) as session:
        found = [session.run(images) for _, images in batches]
    differences = raw.compare(references, found)
    np.savez(context.folder / "raw.npz", **asdict(differences))
    return {"batches": len(references), "outputs": len(references[0])}
