"""From options to specs: the detector, sizes, images, and settings in MMDetection's syntax."""

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
from farm.plan.placement import cores
from farm.units import Dims

MIN_PIXELS, MAX_PIXELS = 32, 16384


def key_values(settings: Sequence[str], option: str) -> dict[str, Any]:
    """Parse `a.b=1 c=[1,2]` with mmcv's `DictAction`, so that whatever works there works here.

    Raises:
        InputError: a setting without `=`, unmatched brackets, or a number that is not finite.
    """
    if not settings:
        return {}
    for setting in settings:
        if setting.find("=") < 1:
            raise InputError(f"{setting!r} is not KEY=VALUE", option)
    from farm.sources.mmdet import compat  # noqa: F401

    parser = argparse.ArgumentParser()
    from mmcv import DictAction  # after compat

    parser.add_argument("settings", nargs="+", action=DictAction)
    try:
        values = dict(parser.parse_args(["--", *settings]).settings)
    except (ValueError, AssertionError) as error:
        raise InputError(f"{' '.join(settings)!r} is not KEY=VALUE: {error}", option) from None
    if name := next((name for name, value in values.items() if not _finite(value)), None):
        raise InputError(f"{name!r} is not a finite number", option)
    return values


def _finite(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def dims(numbers: Sequence[int], option: str) -> Dims:
    """Return the size of one image of 3 channels; one number stands for a square.

    Raises:
        InputError: neither one nor two numbers, or a size out of range.
    """
    if len(numbers) not in (1, 2):
        raise InputError(
            f"height and width, or one number for a square; {len(numbers)} were given", option
        )
    if not all(MIN_PIXELS <= number <= MAX_PIXELS for number in numbers):
        raise InputError(
            f"{' '.join(map(str, numbers))}: height and width are {MIN_PIXELS} to "
            f"{MAX_PIXELS} pixels",
            option,
        )
    return Dims(1, 3, numbers[0], numbers[-1])


def detector(options: argparse.Namespace, checkpoint: str) -> specs.Model:
    """Return the detector as a matrix would name it.

    Raises:
        InputError: the config or the checkpoint is not there, or `--cfg-options` cannot be parsed.
    """
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
    """Return the path of an image, or None where none is named.

    Raises:
        InputError: the file is not there, or OpenCV cannot decode it.
    """
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
    """Return the number of cores to run on: OMP_NUM_THREADS, else all that this process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdigit() and int(wanted) else cores()
