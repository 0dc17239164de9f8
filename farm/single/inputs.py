"""From options to the inputs of steps: the detector, shape profiles, images, runtime and target."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm import specs
from farm.catalog import RUNTIMES
from farm.errors import InputError, nearest
from farm.plan.content import files
from farm.plan.content.configs import config_file
from farm.plan.content.packages import version
from farm.plan.machines import placement
from farm.specs import Dims, Shape, Target

if TYPE_CHECKING:
    from farm.runtimes import Runtime

_MAX_EXTENT = 1 << 16
"""The upper bound of a free axis: an ONNX file states none."""

_USUAL_EDGE = 512
"""The size that an engine for images of any size is tuned for."""

_EDGE_MULTIPLE = 128
"""Bounds of a dynamic engine are rounded up to this, which all paddings of mmdet divide."""


def fixed_shape(size: Dims) -> Shape:
    """Return the shape of images that are letterboxed to exactly this size."""
    return Shape(f"{size.h}x{size.w}", size, size, size)


def free_shape(n: int | None, h: int | None, w: int | None, opt: Dims) -> Shape:
    """Return the shape that takes any extent of an axis given as None, traced at `opt`."""
    low, high = (Dims(n or end, 3, h or end, w or end) for end in (1, _MAX_EXTENT))
    return Shape(f"{opt.h}x{opt.w} dynamic", low, opt, high)


def resized_shape(scale: Dims | None, batch: int = 1) -> Shape:
    """Return the shape of all sizes that resizing images to `scale`, and then padding, can make.

    Without a scale it is for images of any size.
    """
    if scale is None:
        return free_shape(batch, None, None, Dims(batch, 3, _USUAL_EDGE, _USUAL_EDGE))
    longest = -(-max(scale.h, scale.w) // _EDGE_MULTIPLE) * _EDGE_MULTIPLE
    low, opt, high = (
        Dims(batch, 3, *size) for size in ((1, 1), (scale.h, scale.w), (longest, longest))
    )
    return Shape(f"{scale.h}x{scale.w} scale", low, opt, high)


def require_runtime(name: str, option: str = "") -> Runtime:
    """Return the descriptor of a runtime that builds engines. option: the one that named it.

    Raises:
        InputError: there is no such runtime, it builds no engines, or it is not installed.
    """
    if "@" in name:
        raise InputError(
            f"{name}: a release of a runtime is for a matrix; here the farm's own environment is "
            f"used: {name.partition('@')[0]}",
            option,
        )
    runtime = RUNTIMES.get(name)
    if runtime is None or not runtime.exported:
        what = f"{name} builds no engine" if runtime else f"this farm has no runtime {name}"
        there = ", ".join(one for one, known in RUNTIMES.items() if known.exported)
        raise InputError(f"{what}; there are: {there}", option)
    if absent := [package for package in runtime.packages if version(package) == "absent"]:
        raise InputError(
            f"{name} needs {', '.join(absent)}, not installed; `farm doctor` says how to get it",
            option,
        )
    return runtime


def target_here(runtime: str) -> Target:
    """Return the target that is this machine's CPU, or its GPU for runtimes of accelerators.

    Raises:
        InputError: the runtime needs a GPU, and there is none.
    """
    if not RUNTIMES[runtime].accelerators:
        return Target("cpu", placement.cpu_model())
    if not placement.gpus():
        ahead = RUNTIMES[runtime].compute_capabilities
        hint = f"; say which it is for: --compute-capability {ahead[-1]}" if ahead else ""
        raise InputError(f"{runtime} needs a GPU, and nvidia-smi finds none here{hint}")
    gpu = placement.gpus()[0]
    kind = placement.accelerator(gpu.name)
    return placement.target(kind.lower(), kind, None, gpu.compute_capability, gpu.driver)


def target_elsewhere(runtime: str, capability: str) -> Target:
    """Return the target that is any GPU of this compute capability.

    Raises:
        InputError: the runtime builds only on the machine itself, or not for these GPUs.
    """
    known = RUNTIMES[runtime].compute_capabilities
    if not known:
        reason = f"{runtime} builds on the machine that runs it, for that one"
        raise InputError(f"{reason}; leave it out", "--compute-capability")
    if capability not in known:
        reason = f"{capability!r}: {runtime} builds for {', '.join(known)}"
        raise InputError(f"{reason}{nearest(capability, known)}", "--compute-capability")
    kind = f"SM{capability.replace('.', '')}"
    return Target(kind.lower(), f"compute capability {capability}", kind, capability)


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


def image_size(numbers: Sequence[int], option: str) -> Dims:
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


def detector_spec(options: argparse.Namespace, checkpoint: str) -> specs.Model:
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


def image_path(name: str | None, option: str) -> Path | None:
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
    return int(wanted) if wanted.isdigit() and int(wanted) else placement.cores()
