"""The size of images that a config is made for."""

from __future__ import annotations

from typing import Any

from farm.errors import InputError
from farm.units import Dims


def own_scale(settings: Any, where: str) -> Dims | None:
    """The size that the config's test pipeline resizes to, as mmdet reads it: (width, height).

    None where it resizes by a factor of each image's own size.

    Raises:
        InputError: it says neither.
    """
    from farm.sources.mmdet import config

    for step in config.test_pipeline(settings, where):
        scale = step.get("img_scale")
        if isinstance(scale, list) and len(scale) == 1:
            scale = scale[0]
        if isinstance(scale, list | tuple) and all(isinstance(edge, int) for edge in scale):
            return Dims(1, 3, scale[1], scale[0])
        if step.get("scale_factor"):
            return None
    raise InputError("its test pipeline has no `img_scale` of a width and a height", where)
