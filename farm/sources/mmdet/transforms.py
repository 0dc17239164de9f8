"""Whether a test pipeline's transforms are MMDetection's own.

Stage `prepare` makes the images of all models with the same pipeline, in a process that runs no
code of a config's. A transform that such code replaces would be another there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import mmcv
from mmcv.image import io
from mmdet.datasets import PIPELINES

from farm.errors import StepFailed
from farm.sources.mmdet.overrides import module_of, overridden

_FUNCTIONS = ("imfrombytes", "imnormalize", "impad", "impad_to_multiple", "imrescale", "imresize")
"""Of mmcv's, by which mmdet's transforms work."""


def require_mmdets(pipeline: Any) -> None:
    """pipeline: transforms, perhaps nested, each of a type that is registered.

    Raises:
        StepFailed: one of them, or what they work by, is not MMDetection's or mmcv's.
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
