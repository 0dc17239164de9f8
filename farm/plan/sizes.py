"""Heights and widths of a shape that a model's network or its test pipeline does not take."""

from __future__ import annotations

from farm.inputs import ModelFacts, Shape, Sizes
from farm.units import Dims


def unfit(facts: ModelFacts, shape: Shape, profiles: bool) -> str | None:
    """Why the shape cannot be used, with the nearest sizes that can; None where it can.

    profiles: the runtime builds for the bounds of a dynamic shape too. To other runtimes they are
    bounds of the prepared images only, whose own sizes `prepare` looks at.
    """
    network = "the network takes as heights and widths"
    if not shape.dynamic_size:
        padding = "the test pipeline pads to heights and widths that are"
        rules = ((network, facts.sizes), (padding, facts.padded_to))
        reasons = [_reason(shape, "opt", shape.opt, does, sizes) for does, sizes in rules]
    else:
        ends = ("min", "opt", "max") if profiles else ("opt",)
        reasons = [_reason(shape, e, getattr(shape, e), network, facts.sizes) for e in ends]
    return next(filter(None, reasons), None)


def _reason(shape: Shape, end: str, asked: Dims, does: str, sizes: Sizes | None) -> str | None:
    if sizes is None or sizes.fit(asked.h, asked.w):
        return None
    nearest = [f"{h}x{w}" for h, w in sizes.nearest(asked.h, asked.w)]
    are = "is" if len(nearest) == 1 else "are"
    return (
        f"{does} {sizes}, and {end} of shape {shape.name} is {asked.h}x{asked.w} (HxW); the nearest"
        f" {are} {' and '.join(nearest)}"
    )
