"""The data sets that a config's `data.test` is made of, and the test pipeline that they share."""

from __future__ import annotations

from typing import Any

import mmcv

from farm.errors import InputError
from farm.sources.mmdet import pipeline


def canonical_pipeline(config: mmcv.Config, where: str) -> str:
    """`ModelFacts.pipeline`: of all data sets that `data.test` is made of.

    Raises:
        InputError: the config has none, or data sets with pipelines that differ.
        StepFailed: it is of a kind that cannot be prepared here.
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
    return found


def test_pipelines(config: mmcv.Config, where: str) -> dict[str, list[Any]]:
    """The transforms of each data set in `data.test`, by where `cfg_options` find them.

    mmdet gives each data set its own, and a wrapper's leftover one to nobody. The config's
    `test_pipeline` counts only where no data set has any.

    Raises:
        InputError: there is none at all, or one of several data sets has none.
    """
    parts = _tested(config, where)
    found = {f"{place}.pipeline": part["pipeline"] for place, part in parts if "pipeline" in part}
    if not found:
        found = {"test_pipeline": config.get("test_pipeline")}
        parts = parts[:1]
    for place, steps in found.items():
        if not isinstance(steps, list | tuple) or not steps:
            raise InputError(
                f"it has no test pipeline; expected a list of transforms at {place}", where
            )
    if len(found) < len(parts):
        lacking = next(place for place, part in parts if "pipeline" not in part)
        raise InputError(f"{lacking} has no `pipeline`, and other data sets of it have", where)
    return found


def _tested(config: mmcv.Config, where: str) -> list[tuple[str, dict[str, Any]]]:
    return _parts((config.get("data") or {}).get("test") or {}, "data.test", where)


def _parts(dataset: Any, place: str, where: str) -> list[tuple[str, dict[str, Any]]]:
    """The data sets within lists and wrappers, and where each stands; at least one."""
    if isinstance(dataset, list | tuple):
        found = [one for i, x in enumerate(dataset) for one in _parts(x, f"{place}.{i}", where)]
        return found or [(place, {})]
    if not isinstance(dataset, dict):
        return [(place, {})]
    for name in ("datasets", "dataset"):
        if isinstance(dataset.get(name), list | tuple | dict):
            within = _parts(dataset[name], f"{place}.{name}", where)
            return [(at, _wrapped(part, dataset, place, where)) for at, part in within]
    return [(place, dataset)]


def _wrapped(
    part: dict[str, Any], wrapper: dict[str, Any], place: str, where: str
) -> dict[str, Any]:
    """`part` as mmdet builds it within `wrapper`."""
    kind, own = wrapper.get("type"), wrapper.get("pipeline")
    if not own or kind in (None, "ConcatDataset", "RepeatDataset", "ClassBalancedDataset"):
        return part
    if kind == "MultiImageMixDataset":  # its own transforms run after those of the part
        return {**part, "pipeline": [*(part.get("pipeline") or ()), *own]}
    raise InputError(
        f"{place} is a {kind}, which has a pipeline and data sets within: which of them prepares"
        " an image is not known; name the plain data set in `data.test`",
        where,
    )
