"""Which methods of MMDetection's classes are not its own any more.

Users inherit from its data sets and transforms, register classes of theirs in place of them, set
functions into them, and add files of their own to its folders.
"""

from __future__ import annotations

from typing import Any

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
"""MMDetection's by name: people add files to its folders, too."""

_PYTHONS = {"__dict__", "__weakref__"}


def overridden(kind: Any) -> frozenset[str]:
    """The names of the methods, of those that MMDetection calls, that others wrote.

    A class that only has other values (`CLASSES`), or methods that nothing of MMDetection's calls,
    has none. Of what is no class, its own name.
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
    """Whether the class itself is MMDetection's."""
    return kind.__module__ in _MODULES


def _is_code(name: str, value: Any) -> bool:
    return name not in _PYTHONS and (callable(value) or hasattr(type(value), "__get__"))


def module_of(function: Any) -> str:
    """The module that a function was written in, whatever a decorator copied onto it; empty for
    what is not written in Python."""
    return str(getattr(function, "__globals__", {}).get("__name__", ""))
