"""What the options' words say: files, sizes, and settings in MMDetection's KEY=VALUE syntax."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from farm import specs
from farm.errors import InputError
from farm.plan import files
from farm.plan.configs import config_file
from farm.units import Dims

LEAST_PIXELS, MOST_PIXELS = 32, 16384


def key_values(words: Sequence[str], option: str) -> dict[str, Any]:
    """`a.b=1 c=[1,2]` by mmcv's own rules, so that whatever works there works here.

    Raises:
        InputError: a word without `=`, brackets that do not match, a number that is none.
    """
    if not words:
        return {}
    for word in words:
        if word.find("=") < 1:
            raise InputError(f"{word!r} is not KEY=VALUE", option)
    from farm.sources.mmdet import compat  # noqa: F401

    # isort: split
    from mmcv import DictAction

    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="+", action=DictAction)
    try:
        found = dict(parser.parse_args(["--", *words]).words)
    except (ValueError, AssertionError) as error:
        raise InputError(f"{' '.join(words)!r} is not KEY=VALUE: {error}", option) from None
    if name := next((name for name, value in found.items() if not _finite(value)), None):
        raise InputError(f"{name!r} is not a finite number", option)
    return found


def _finite(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def dims(numbers: Sequence[int], option: str) -> Dims:
    """One image of 3 channels; one number is a square. Raises InputError."""
    if len(numbers) not in (1, 2):
        raise InputError(
            f"height and width, or one number for a square; {len(numbers)} were given", option
        )
    if not all(LEAST_PIXELS <= number <= MOST_PIXELS for number in numbers):
        raise InputError(
            f"{' '.join(map(str, numbers))}: height and width are {LEAST_PIXELS} to "
            f"{MOST_PIXELS} pixels",
            option,
        )
    return Dims(1, 3, numbers[0], numbers[-1])


def detector(options: argparse.Namespace, checkpoint: str) -> specs.Model:
    """The detector as a matrix would name it. Raises InputError."""
    here = Path.cwd()
    settings = key_values(getattr(options, "cfg_options", ()), "--cfg-options")
    return specs.Model(
        name=Path(options.config).stem,
        source="mmdet",
        config=config_file(options.config, here),
        checkpoint=files.plain_file("file", checkpoint, here),
        cfg_options=tuple(sorted(settings.items())),
        allow_pickle=getattr(options, "allow_pickle", False),
    )


def image(name: str | None, option: str) -> Path | None:
    """The image, if one is named. Raises InputError where OpenCV cannot decode it."""
    if name is None:
        return None
    import cv2

    try:
        path = files.plain_file("image", name, Path.cwd()).path
    except InputError as error:
        raise InputError(error.message, option) from None
    if cv2.imread(path) is None:
        raise InputError(f"{path} is not an image that OpenCV can decode", option)
    return Path(path)


def threads() -> int:
    """Cores to run on: OMP_NUM_THREADS where it says so, else all that are ours."""
    from farm.plan.placement import cores

    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdigit() and int(wanted) else cores()
