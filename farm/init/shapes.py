"""The shape profiles of a first matrix, by the size to which a config's test pipeline resizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farm.specs import Dims
from farm.specs.pipeline import CentrePad, Pad, Resize, is_mmdets, parsed

if TYPE_CHECKING:
    from farm.specs import ModelFacts, Sizes

_USUAL = Dims(1, 3, 512, 512)
"""Where a pipeline resizes by a factor of each image's own size."""

_STRIDE = 32
"""The usual multiple of heights and widths, where the config does not have one."""


@dataclass(frozen=True)
class Profile:
    """One shape profile. min, max: None for a fixed one. text: what it is for."""

    opt: Dims
    text: str
    min: Dims | None = None
    max: Dims | None = None


def profiles(scale: Dims | None, facts: ModelFacts) -> Mapping[str, Profile]:
    """Return the profiles by name: `fixed`, and `dynamic` where images keep their proportions.

    scale: the size to which the test pipeline resizes, height and width in pixels; None where that
    is relative to each image's size.
    """
    said = "letterboxed to the size of the config's test pipeline"
    if scale is None:
        scale, said = _USUAL, "the config resizes relative to each image: choose a size"
    if not _keeps_ratio(facts.pipeline):
        return {"fixed": Profile(scale, "the size to which the config's test pipeline resizes")}
    step = _multiple(facts)
    opt = Dims(1, 3, *_fitting(scale.h, scale.w, step=step, sizes=facts.sizes))
    short, long = min(opt.h, opt.w), max(opt.h, opt.w)
    (low,) = _fitting(short // 2, step=step, sizes=facts.sizes)
    dynamic = Profile(
        opt, "each image in its own proportions", Dims(1, 3, low, low), Dims(1, 3, long, long)
    )
    return {"fixed": Profile(opt, f"every image is {said}"), "dynamic": dynamic}


def _keeps_ratio(pipeline: str) -> bool:
    if is_mmdets(pipeline):
        return '"keep_ratio":true' in pipeline
    return any(step.keep_ratio for step in parsed(pipeline).steps if isinstance(step, Resize))


def _multiple(facts: ModelFacts) -> int:
    """What images are padded to a multiple of."""
    if is_mmdets(facts.pipeline):
        return _STRIDE
    steps = parsed(facts.pipeline).steps
    own = [step.divisor for step in steps if isinstance(step, Pad) and step.divisor]
    if any(isinstance(step, CentrePad) for step in steps):
        return 1  # it pads by a rule of its own, which `facts.padded_to` has
    return own[0] if own else _STRIDE


def _fitting(*extents: int, step: int, sizes: Sizes | None) -> tuple[int, ...]:
    """These extents, rounded up to what images are padded to and the network takes."""
    padded = [max(-(-extent // step) * step, step) for extent in extents]
    taken = sizes.nearest(*padded) if sizes else []
    return taken[-1] if taken else tuple(padded)
