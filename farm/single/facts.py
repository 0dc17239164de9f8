"""What a config tells without its weights: how to prepare images and read an engine's outputs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from farm import inputs
from farm.errors import InputError
from farm.sources import source_module
from farm.units import Dims


def facts_without_weights(model: inputs.Model) -> inputs.ModelFacts:
    """The facts of `model`, whose weights are in an ONNX file or an engine.

    Raises:
        InputError, StepFailed: as the source's `load`; and masks that cannot be read as mmdet does.
    """
    import torch

    from farm.sources.mmdet import config

    detector = config.build(config.read(model), model.config.path)
    _require_known_masks(detector, model.config.path)
    nothing = {name: torch.zeros_like(value) for name, value in detector.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "nothing.pth"
        torch.save(nothing, path)
        empty = replace(model, checkpoint=inputs.File(str(path), ""))
        facts: inputs.ModelFacts = source_module(model.source).load(empty).facts
    return facts


def _require_known_masks(detector: Any, where: str) -> None:
    """An engine's masks are cut after it, as this config says, whatever it was exported with."""
    from farm.sources.mmdet.two_stage.parts import require_binary_masks

    head = getattr(detector, "roi_head", None)
    try:
        if getattr(head, "with_mask", False):
            require_binary_masks(head)
    except ValueError as error:
        raise InputError(str(error), where) from None


def without_flip(model: inputs.Model) -> inputs.Model:
    """`model` with its test pipeline's flip off: for comparing engines, which see an image once.

    Raises InputError as `config.read`.
    """
    from farm.sources.mmdet import config, test_data

    pipelines = test_data.test_pipelines(config.read(model), model.config.path)
    off = tuple(
        (f"{place}.{i}.flip", False)
        for place, steps in pipelines.items()
        for i, step in enumerate(steps)
        if isinstance(step, dict) and "flip" in step
    )
    return replace(model, cfg_options=model.cfg_options + off)


def own_scale(settings: Any, where: str) -> Dims | None:
    """The size that the config's test pipeline resizes to, as mmdet reads it: (width, height).

    None where it resizes by a factor of each image's own size.

    Raises:
        InputError: it says neither, or the data sets of `data.test` differ in it.
    """
    from farm.sources.mmdet import test_data

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
