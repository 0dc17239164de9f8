"""A model's preprocessing as `detector.py` runs it, and as people read it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from farm.preprocess.opencv import filling
from farm.specs.pipeline import CentrePad, Normalize, Pad, Pipeline, Resize, name_of, parsed

if TYPE_CHECKING:
    from farm.specs import Shape

Json = dict[str, Any]


def pipeline_for(text: str, shape: Shape) -> Pipeline:
    """Return the pipeline for one shape profile: with a fixed size it pads to exactly that.

    text: `ModelFacts.pipeline`.
    """
    found = parsed(text)
    return found if shape.dynamic_size else filling(found, (shape.opt.h, shape.opt.w))


def steps(pipeline: Pipeline, shape: Shape) -> Json:
    """Return the field `preprocess` of `bundle.json`: how files are decoded, then each step."""
    return {
        "decode": asdict(pipeline.decode),
        "steps": [{"step": name_of(one), **_fields(one, shape)} for one in pipeline.steps],
    }


def _fields(step: Resize | Normalize | Pad | CentrePad, shape: Shape) -> Json:
    if isinstance(step, Resize):
        size = {"height": shape.opt.h, "width": shape.opt.w}
        return {**asdict(step), **size, "exact": not shape.dynamic_size}
    return asdict(step)


def description(pipeline: Pipeline) -> Json:
    """Return what a program of one's own must do to an image, a field for each question."""
    normalize = next((one for one in pipeline.steps if isinstance(one, Normalize)), None)
    swapped = normalize is not None and normalize.to_rgb
    rgb = (pipeline.decode.channel_order == "rgb") != swapped
    return {
        "channel_order": "RGB" if rgb else "BGR",
        "range": [0, 255],
        "mean": list(normalize.mean) if normalize else [0.0, 0.0, 0.0],
        "std": list(normalize.std) if normalize else [1.0, 1.0, 1.0],
        "resize": _resizing(next(one for one in pipeline.steps if isinstance(one, Resize))),
        "pad": _padding(pipeline),
    }


def _resizing(step: Resize) -> Json:
    if step.factor:
        rule = f"by {step.factor:g}, whatever the size"
    elif step.keep_ratio:
        rule = "to fit the shape, with the aspect ratio kept; sides rounded to the nearest pixel"
    else:
        rule = "to fill the shape"
    return {"rule": rule, "interpolation": step.interpolation}


def _padding(pipeline: Pipeline) -> Json | None:
    """Where padding goes, what it holds, and whether it is normalised, too."""
    kinds = [type(one) for one in pipeline.steps]
    place = next((i for i, kind in enumerate(kinds) if kind in (Pad, CentrePad)), None)
    if place is None:
        return None
    pad = pipeline.steps[place]
    assert isinstance(pad, Pad | CentrePad)
    before = Normalize in kinds[place:]
    return {
        "where": "on all sides" if isinstance(pad, CentrePad) else "on the right and below",
        "value": list(pad.value),
        "when": "before normalising" if before else "after normalising",
    }
