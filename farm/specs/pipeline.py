"""Test pipelines: the steps by which an image file becomes the input of a network.

They are named and computed as MMDetection's transforms; `farm.preprocess` runs them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

Triple = tuple[float, float, float]

COLOR_TYPES = (
    "color",
    "color_ignore_orientation",
    "grayscale",
    "grayscale_ignore_orientation",
    "unchanged",
)
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "area", "lanczos")


@dataclass(frozen=True)
class Decode:
    """Decodes the file to [H, W, C].

    color_type: one of `COLOR_TYPES`; an image is turned upright as its EXIF says, but for
    `unchanged` and those that ignore the orientation. channel_order: `bgr` or `rgb`, which applies
    to `color` alone. to_float32: converts the pixels, which stay from 0 to 255.
    """

    color_type: str = "color"
    channel_order: str = "bgr"
    to_float32: bool = False


@dataclass(frozen=True)
class Resize:
    """Resizes to the shape profile: to fit it (`keep_ratio`), or to fill it.

    factor: for profiles of dynamic size, relative to each image's own size in place of `opt`.
    """

    keep_ratio: bool = True
    interpolation: str = "bilinear"
    factor: float | None = None


@dataclass(frozen=True)
class Normalize:
    """Swaps blue and red (`to_rgb`), then subtracts `mean` and divides by `std`, by channel."""

    mean: Triple
    std: Triple
    to_rgb: bool = True


@dataclass(frozen=True)
class Pad:
    """Pads on the right and below: to `size` (h, w), to multiples of `divisor`, or to a square.

    value: of each channel.
    """

    size: tuple[int, int] | None = None
    divisor: int | None = None
    square: bool = False
    value: Triple = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class CentrePad:
    """Pads on all sides: to `size` (h, w), else to the next size that `mode` gives.

    mode: `size_divisor` (a multiple of `number`) or `logical_or` (the extent or `number`, bit by
    bit), with `extra` pixels added in that mode. value: of each channel.
    """

    mode: str
    number: int
    extra: int = 0
    value: Triple = (0.0, 0.0, 0.0)
    size: tuple[int, int] | None = None


Step = Resize | Normalize | Pad | CentrePad

_KINDS: dict[str, type[Step]] = {
    "resize": Resize,
    "normalize": Normalize,
    "pad": Pad,
    "centre_pad": CentrePad,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def name_of(step: Decode | Step) -> str:
    return "decode" if isinstance(step, Decode) else _NAMES[type(step)]


@dataclass(frozen=True)
class Pipeline:
    """Everything that decides the pixels of a prepared image, beside the shape profile.

    steps: in their order; one of them resizes, and at most one pads, after that.
    """

    decode: Decode = Decode()
    steps: tuple[Step, ...] = (Resize(),)

    @property
    def text(self) -> str:
        """The pipeline as canonical JSON: equal texts prepare equal images."""
        steps = [{name_of(step): asdict(step)} for step in self.steps]
        values = {"decode": asdict(self.decode), "steps": steps}
        return json.dumps(values, sort_keys=True, separators=(",", ":"))


def is_mmdets(text: str) -> bool:
    """Return whether `ModelFacts.pipeline` is a list of transforms that only MMDetection runs."""
    return text.startswith("[")


def parsed(text: str) -> Pipeline:
    """Read a pipeline from its `text`."""
    values = json.loads(text)
    steps = (_step(name, fields) for one in values["steps"] for name, fields in one.items())
    return Pipeline(Decode(**values["decode"]), tuple(steps))


def _step(name: str, fields: dict[str, Any]) -> Step:
    tuples: dict[str, Any] = {k: tuple(v) if type(v) is list else v for k, v in fields.items()}
    return _KINDS[name](**tuples)
