"""The size of images that a config is made for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from farm.errors import InputError
from farm.sources.mmdet import test_data
from farm.units import Dims


def own_scale(settings: Any, where: str) -> Dims | None:
    """The size that the config's test pipeline resizes to, as mmdet reads it: (width, height).

    None where it resizes by a factor of each image's own size.

    Raises:
        InputError: it says neither, or the data sets of `data.test` differ in it.
    """
    pipelines = test_data.test_pipelines(settings, where)
    scales = {place: _scale(steps, where) for place, steps in pipelines.items()}
    if len(set(scales.values())) > 1:
        raise InputError(f"{' and '.join(scales)} resize to different sizes; test one", where)
    return next(iter(scales.values()))


def _scale(steps: Sequence[Any], where: str) -> Dims | None:
    for step in filter(lambda step: isinstance(step, dict), steps):
        scale = step.get("img_scale")
        if isinstance(scale, list) and len(scale) == 1:
            scale = scale[0]
        if isinstance(scale, list | tuple) and all(isinstance(edge, int) for edge in scale):
            return Dims(1, 3, scale[1], scale[0])
        if step.get("scale_factor"):
            return None
    raise InputError("its test pipeline has no `img_scale` of a width and a height", where)
