"""What a config says without its weights: how to prepare images and read an engine's outputs."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from farm import specs
from farm.catalog import SOURCES
from farm.errors import InputError


def facts_without_weights(model: specs.Model) -> specs.ModelFacts:
    """Return the facts of `model`, whose weights are in an ONNX file or an engine.

    Raises:
        InputError: the config is wrong, or has masks that cannot be read as mmdet does.
        StepFailed: as the source's `load`.
    """
    import torch

    from farm.sources.mmdet import config

    detector = config.build(config.read(model), model.config.path)
    _require_known_masks(detector, model.config.path)
    zeros = {name: torch.zeros_like(value) for name, value in detector.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "zeros.pth"
        torch.save(zeros, path)
        without_weights = replace(model, checkpoint=specs.File(str(path), ""))
        facts: specs.ModelFacts = SOURCES[model.source].adapter().load(without_weights).facts
    return facts


def _require_known_masks(detector: Any, where: str) -> None:
    """Raise InputError where masks need more than a threshold, which is all an engine's get."""
    from farm.sources.mmdet.two_stage.parts import require_binary_masks

    head = getattr(detector, "roi_head", None)
    try:
        if getattr(head, "with_mask", False):
            require_binary_masks(head)
    except ValueError as error:
        raise InputError(str(error), where) from None


def without_flip(model: specs.Model) -> specs.Model:
    """Return `model` with its test pipeline's flip off: engines see an image only once.

    Raises:
        InputError: as `config.read`.
    """
    from farm.sources.mmdet import config, test_data

    pipelines = test_data.test_pipelines(config.read(model), model.config.path)
    off = tuple(
        (f"{place}.{i}.flip", False)
        for place, pipeline in pipelines.items()
        for i, step in enumerate(pipeline)
        if isinstance(step, dict) and "flip" in step
    )
    return replace(model, cfg_options=model.cfg_options + off)
