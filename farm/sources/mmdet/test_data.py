"""The data sets that a config's `data.test` is made of, and the test pipeline that they share."""

from __future__ import annotations

from typing import Any

import mmcv

from farm.errors import InputError
from farm.sources.mmdet import named_data, pipeline, transforms

_WITHOUT_PIPELINE = (None, "ConcatDataset", "RepeatDataset", "ClassBalancedDataset")
"""Wrappers whose `pipeline` mmdet gives to nobody. None: a mapping around data sets."""


def canonical_pipeline(config: mmcv.Config, where: str) -> str:
    """`ModelFacts.pipeline`: of all data sets that `data.test` is made of.

    Raises:
        InputError: the config has none, or data sets with pipelines that differ.
        StepFailed: it is of a kind that cannot be prepared here, or of transforms that the config's
            code replaced.
    """
    (first, steps), *others = test_pipelines(config, where).items()
    found = pipeline.canonical(steps, first)
    for place, steps in others:
        if pipeline.canonical(steps, place) != found:
            raise InputError(
                f"{first} and {place} prepare images in different ways, and a model is tested in"
                " one: give its data sets equal pipelines, or name one of them in `data.test`",
                where,
            )
    for steps in test_pipelines(config, where).values():
        transforms.require_mmdets(steps)
    return found


def test_pipelines(config: mmcv.Config, where: str) -> dict[str, list[Any]]:
    """The transforms of each data set in `data.test`, by where `cfg_options` find them.

    mmdet gives each data set its own, and a wrapper's leftover one to nobody. The config's
    `test_pipeline` counts only where no data set has any.

    Raises:
        InputError: there is none at all, or one of several data sets has none.
    """
    tested = named_data.parts(config, "test") or [named_data.Part("data.test", {})]
    by_place = {part.place: _pipeline(part, where) for part in tested}
    found = {f"{place}.pipeline": steps for place, steps in by_place.items() if steps is not None}
    if not found:
        found, by_place = {"test_pipeline": config.get("test_pipeline")}, {}
    for place, steps in found.items():
        if not isinstance(steps, list | tuple) or not steps:
            raise InputError(
                f"it has no test pipeline; expected a list of transforms at {place}", where
            )
    if lacking := next((place for place, steps in by_place.items() if steps is None), None):
        raise InputError(f"{lacking} has no `pipeline`, and other data sets of it have", where)
    return found


def _pipeline(part: named_data.Part, where: str) -> Any:
    """Of a data set as mmdet builds it within its wrappers; None where it has none."""
    steps = part.settings.get("pipeline")
    for wrapper in part.wrappers:
        kind, own = wrapper.settings.get("type"), wrapper.settings.get("pipeline")
        if not own or kind in _WITHOUT_PIPELINE:
            continue
        if kind != "MultiImageMixDataset":
            raise InputError(
                f"{wrapper.place} is a {kind}, which has a pipeline and data sets within: which of"
                " them prepares an image is not known; name the plain data set in `data.test`",
                where,
            )
        steps = [*(steps or ()), *own]  # its own transforms run after those of the part
    return steps
