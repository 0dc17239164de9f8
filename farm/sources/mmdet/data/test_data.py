"""Finds the data sets in a config's `data.test`, and their test pipeline, with its size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import mmcv
from mmdet.datasets import DATASETS

from farm.errors import InputError
from farm.sources.mmdet.data import overrides, pipeline
from farm.specs import Dims

_BY_FILE = ("ann_file", "img_prefix", "seg_prefix", "proposal_file")
"""Settings that may be lists, with an entry for each of several annotation files."""

_WITHOUT_PIPELINE = (None, "ConcatDataset", "RepeatDataset", "ClassBalancedDataset")
"""Wrappers whose own `pipeline` mmdet ignores. None: a mapping that contains data sets."""


@dataclass(frozen=True)
class Part:
    """One plain data set with one annotation file.

    place: the key of its settings in the config, such as `data.train.dataset`. index: which of the
    annotation files, where the settings list several; these parts have the same `place`. wrappers:
    the wrappers around it, the innermost first, as parts of their own.
    """

    place: str
    settings: Mapping[str, Any]
    index: int | None = None
    wrappers: tuple[Part, ...] = ()

    @property
    def file_option(self) -> str:
        """The key by which `cfg_options` set its annotation file."""
        return f"{self.place}.ann_file" + ("" if self.index is None else f".{self.index}")

    @property
    def kind(self) -> Any:
        """Its class; None where it has no type, or one that is not registered."""
        kind = self.settings.get("type")
        found = DATASETS.get(kind) if isinstance(kind, str) else kind
        return found if isinstance(found, type) else None

    @property
    def file(self) -> str:
        """Its annotation file, under `data_root` as mmdet resolves it; empty where it has none."""
        name, root = self.settings.get("ann_file"), self.settings.get("data_root")
        return str(Path(root or "") / name) if isinstance(name, str) and name else ""


def parts(config: mmcv.Config, use: str) -> list[Part]:
    """Return the plain data sets of `data.<use>`, as mmdet's `build_dataset` would open them.

    A value that is no data set, where one is expected, becomes a part without settings.
    """
    value = (config.get("data") or {}).get(use)
    return [] if value is None else list(_parts(value, f"data.{use}", ()))


def _parts(value: Any, place: str, wrappers: tuple[Part, ...]) -> Iterator[Part]:
    if isinstance(value, list | tuple):
        for i, one in enumerate(value):
            yield from _parts(one, f"{place}.{i}", wrappers)
    elif not isinstance(value, Mapping):
        yield Part(place, {}, wrappers=wrappers)
    elif inner := next((name for name in ("datasets", "dataset") if _wraps(value, name)), None):
        around = (Part(place, value), *wrappers)
        yield from _parts(value[inner], f"{place}.{inner}", around)
    elif isinstance(files := value.get("ann_file"), list | tuple):
        for i in range(len(files)):
            yield Part(place, _of_file(value, i), i, wrappers)
    else:
        yield Part(place, value, wrappers=wrappers)


def _wraps(value: Mapping[str, Any], name: str) -> bool:
    inner = value.get(name)
    return bool(inner) and isinstance(inner, list | tuple | Mapping)


def _of_file(value: Mapping[str, Any], i: int) -> dict[str, Any]:
    """The settings of a data set of several annotation files, for file `i`."""
    own = {
        name: value[name][i]
        for name in _BY_FILE
        if isinstance(value.get(name), list | tuple) and i < len(value[name])
    }
    return {name: one for name, one in value.items() if name != "separate_eval"} | own


def canonical_pipeline(config: mmcv.Config, where: str) -> str:
    """Return `ModelFacts.pipeline`: the one test pipeline of all data sets in `data.test`.

    Raises:
        InputError: the config has none, or its data sets have different pipelines.
        StepFailed: the pipeline is of a kind that cannot be prepared here, or the config's code
            replaced one of its transforms.
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
        overrides.require_mmdets(steps)
    return found


def test_pipelines(config: mmcv.Config, where: str) -> dict[str, list[Any]]:
    """Return the transforms of each data set in `data.test`, by their keys for `cfg_options`.

    As in mmdet, each data set uses its own pipeline, and a wrapper's unused one is ignored. The
    config's `test_pipeline` counts only where no data set has one.

    Raises:
        InputError: there is no pipeline, only some of the data sets have one, or it is not clear
            whether a wrapper's or a data set's applies.
    """
    tested = parts(config, "test") or [Part("data.test", {})]
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


def _pipeline(part: Part, where: str) -> Any:
    """The pipeline of a data set as mmdet builds it in its wrappers; None where it has none."""
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


def own_scale(settings: Any, where: str) -> Dims | None:
    """Return the size to which the config's test pipeline resizes.

    mmdet reads a pair as (width, height). None where it resizes by a factor of each image's size.

    Raises:
        InputError: the pipeline has neither, or the data sets of `data.test` differ in it.
    """
    pipelines = test_pipelines(settings, where)
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
