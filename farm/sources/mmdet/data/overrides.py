"""Finds which methods and transforms of a config are not MMDetection's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import mmcv
from mmcv.image import io
from mmdet.datasets import PIPELINES

from farm.errors import StepFailed

_LIBRARIES = {"abc", "builtins", "collections", "mmcv", "pycocotools", "torch", "typing"}
_DATASETS = (
    "cityscapes", "coco", "coco_occluded", "coco_panoptic", "custom", "dataset_wrappers",
    "deepfashion", "lvis", "objects365", "openimages", "voc", "wider_face", "xml_style",
    "api_wrappers.coco_api",
)  # fmt: skip
_TRANSFORMS = ("compose", "formating", "formatting", "loading", "test_time_aug", "transforms")
_MODULES = {
    *(f"mmdet.datasets.{name}" for name in _DATASETS),
    *(f"mmdet.datasets.pipelines.{name}" for name in _TRANSFORMS),
}
"""MMDetection's modules by name, since users add files to its folders."""

_PYTHONS = {"__dict__", "__weakref__"}

_FUNCTIONS = ("imfrombytes", "imnormalize", "impad", "impad_to_multiple", "imrescale", "imresize")
"""Functions of mmcv that mmdet's transforms call."""


def overridden(kind: Any) -> frozenset[str]:
    """Return the names of methods that MMDetection calls and that are not its own code.

    A class that only changes values (`CLASSES`), or adds methods that MMDetection never calls, has
    none. For an object that is no class, its own name is returned.
    """
    if not isinstance(kind, type):
        return frozenset({getattr(kind, "__name__", "__call__")})
    bases = [one for one in kind.__mro__ if one.__module__.split(".")[0] not in _LIBRARIES]
    mmdets = [one for one in bases if is_mmdets(one)]
    return frozenset(
        name
        for base in bases
        for name, value in vars(base).items()
        if _is_code(name, value)
        and module_of(getattr(value, "__func__", value)) not in _MODULES
        and (name.startswith("__") or any(hasattr(one, name) for one in mmdets))
    )


def is_mmdets(kind: type) -> bool:
    """Return whether the class itself is MMDetection's."""
    return kind.__module__ in _MODULES


def _is_code(name: str, value: Any) -> bool:
    return name not in _PYTHONS and (callable(value) or hasattr(type(value), "__get__"))


def module_of(function: Any) -> str:
    """Return the module that a function's code is in, even if a decorator copied another name.

    Empty for a function that is not written in Python.
    """
    return str(getattr(function, "__globals__", {}).get("__name__", ""))


def require_mmdets(pipeline: Any) -> None:
    """Check that all transforms, and the functions they call, are MMDetection's or mmcv's.

    pipeline: transforms, possibly nested, each of a registered type.

    Raises:
        StepFailed: one is not; the message names it.
    """
    for name in _types(pipeline):
        kind = PIPELINES.get(name)
        if overridden(kind):
            raise _refused(f"step {name} is {_place(kind)}")
    for name in _FUNCTIONS:
        if not module_of(function := getattr(mmcv, name)).startswith("mmcv."):
            raise _refused(f"calls mmcv.{name}, which is {_place(function)}")
    if io.imread_backend != "cv2":
        raise _refused(f"reads images by {io.imread_backend} (mmcv.use_backend)")


def _refused(what: str) -> StepFailed:
    return StepFailed(
        f"the test pipeline's {what}: images are prepared without the config's code, by"
        " MMDetection's own transforms; let the model, or the image files, have its effect"
    )


def _place(kind: Any) -> str:
    name = f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', kind)}"
    changed = sorted(overridden(kind)) if isinstance(kind, type) else []
    return f"{name} with {', '.join(changed)} of the config's" if changed else name


def _types(steps: Any) -> Iterator[str]:
    for step in steps:
        yield step["type"]
        yield from _types(step.get("transforms") or ())
