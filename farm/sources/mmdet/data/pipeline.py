"""Writes the part of a config's test pipeline that affects pixels as canonical text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from farm.errors import StepFailed
from farm.preprocess.transforms import centre_padded_sizes
from farm.sources.mmdet.data import steps as mapping
from farm.specs.pipeline import CentrePad, is_mmdets, parsed

if TYPE_CHECKING:
    from farm.specs import Sizes

IMAGE_STEPS = ("LoadImageFromFile", "Resize", "Normalize", "Pad", "RandomCenterCropPad")
PADS = ("Pad", "RandomCenterCropPad")
_NO_EFFECT = ("RandomFlip", "ImageToTensor", "DefaultFormatBundle", "Collect")
_RESIZE_OPTIONS = {
    "type",
    "keep_ratio",
    "backend",
    "interpolation",
    "bbox_clip_border",
    "multiscale_mode",
}
_PAD_OPTIONS = {"type", "size", "size_divisor", "pad_to_square", "pad_val"}


def canonical(pipeline: Sequence[Any], place: str = "data.test.pipeline") -> str:
    """Return the text of a test pipeline (`ModelFacts.pipeline`): equal text means equal images.

    It is the text of a `Pipeline` where that computes the same pixels, else that of `transforms`.

    Raises:
        StepFailed: as `transforms`.
    """
    text = transforms(pipeline, place)
    found = mapping.pipeline_of(json.loads(text))
    return found.text if found else text


def transforms(pipeline: Sequence[Any], place: str) -> str:
    """Return the transforms of a test pipeline that change pixels, as a list in canonical JSON.

    The config's scale is omitted, since the shape profile replaces it (unless it is relative to
    each image's size), and so are disabled flips and the packing into tensors. `place` is the
    pipeline's key for `cfg_options`.

    Raises:
        StepFailed: it has several scales, a flip, or a step other than load, resize, normalise,
            pad; or its steps are not in that order.
    """
    steps = [step for i, outer in enumerate(pipeline) for step in _inner(outer, f"{place}.{i}")]
    for step in steps:
        _check(step)
    kept = [_kept(step) for step in steps if step["type"] in IMAGE_STEPS]
    _require_order([step["type"] for step in kept])
    try:
        return json.dumps(kept, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise StepFailed(f"{place} has a value that is no number or text: {error}") from error


def padded_to(text: str) -> Sizes | None:
    """Return the sizes to which images of a fixed shape can be padded; None for any."""
    if is_mmdets(text):
        own = (one for one in json.loads(text) if one["type"] == "RandomCenterCropPad")
        pads = [mapping.centre_pad(one) for one in own]
    else:
        pads = [step for step in parsed(text).steps if isinstance(step, CentrePad)]
    return next(map(centre_padded_sizes, pads), None)


def _require_order(names: list[str]) -> None:
    found = ", ".join(names)
    if names[:1] != ["LoadImageFromFile"] or any(names.count(name) != 1 for name in names):
        raise StepFailed(f"the test pipeline must load first, each step once; it has {found}")
    if "Resize" not in names:
        raise StepFailed("the test pipeline has no Resize, so no image would fit a shape")
    pads = [name for name in names if name in PADS]
    if len(pads) > 1 or any(names.index(name) < names.index("Resize") for name in pads):
        raise StepFailed(f"the test pipeline must pad once, after Resize; it has {found}")


def _inner(step: Any, place: str) -> list[dict[str, Any]]:
    """The steps inside a `MultiScaleFlipAug` of one scale without flips; else `step` itself."""
    step = _transform(step, place)
    scale = _single(step.get("img_scale"))
    if step.get("type") != "MultiScaleFlipAug":
        if step.get("type") == "Resize" and isinstance(scale, list):  # mmdet picks one at random
            raise _more_than_once(f"{place}.img_scale='[(W,H)]'")
        return [step]
    factor = _single(step.get("scale_factor"))
    if step.get("flip") or not (isinstance(scale, tuple) or isinstance(factor, int | float)):
        wrong = "flip=False" if step.get("flip") else "img_scale='[(W,H)]'"
        raise _more_than_once(f"{place}.{wrong}")
    own = {"Resize": {"scale_factor": factor} if factor else {}, "RandomFlip": {"flip_ratio": None}}
    nested = (
        _transform(one, f"{place}.transforms.{i}") for i, one in enumerate(step["transforms"])
    )
    return [{**one, **own.get(one.get("type", ""), {})} for one in nested]


def _transform(step: Any, place: str) -> dict[str, Any]:
    """Raises StepFailed for a value that is no transform."""
    if not isinstance(step, dict) or not isinstance(step.get("type"), str):
        raise StepFailed(f"{place} is {step!r:.80}; expected a transform, as dict(type='Resize')")
    if step["type"] == "MultiScaleFlipAug" and not isinstance(step.get("transforms"), list):
        raise StepFailed(f"{place} has no list of `transforms`")
    return dict(step)


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _more_than_once(option: str) -> StepFailed:
    return StepFailed(
        "the test pipeline must have one scale and no flip, since an engine sees an image once;"
        f" set it with --cfg-options {option}, or in a matrix's cfg_options"
    )


def _check(step: dict[str, Any]) -> None:
    kind = step.get("type")
    if kind == "LoadProposals":
        raise StepFailed("it detects nothing by itself: its proposals come from files of another's")
    if kind not in IMAGE_STEPS + _NO_EFFECT:
        known = ", ".join(IMAGE_STEPS + _NO_EFFECT)
        raise StepFailed(f"test pipeline step {kind!r} is not supported; only {known} are")
    if kind == "RandomFlip" and (step.get("flip_ratio") or step.get("prob")):
        raise StepFailed("the test pipeline flips at random; remove `flip_ratio`")
    if kind == "RandomCenterCropPad" and not step.get("test_mode"):
        raise StepFailed("the test pipeline crops at random; set `test_mode` of that step")
    scales = {"img_scale", "scale_factor"}
    allowed = {"Resize": _RESIZE_OPTIONS | scales, "Pad": _PAD_OPTIONS}.get(kind, set(step))
    if unknown := sorted(set(step) - allowed):
        raise StepFailed(f"test pipeline step {kind}: {', '.join(unknown)} not supported")


def _kept(step: dict[str, Any]) -> dict[str, Any]:
    """`step` without options that affect no pixel, and with its padding value as mmdet reads it."""
    kept = {k: v for k, v in step.items() if k not in ("img_scale", "multiscale_mode")}
    value = kept.get("pad_val")
    if step["type"] == "Pad" and isinstance(value, int | float):
        kept["pad_val"] = {"img": value, "masks": value, "seg": 255}
    return kept
