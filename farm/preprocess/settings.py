"""The settings `preprocess` of a matrix as a pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.specs.pipeline import Normalize, Pad, Pipeline, Resize, Step, Triple

if TYPE_CHECKING:
    from farm.specs import Preprocess


def pipeline_of(how: Preprocess) -> str:
    """Returns the text of the pipeline, which an equal config of MMDetection has, too.

    Models with the same text share their prepared images, whatever their source.
    """
    # Decoded pixels are integers; without a computation they stay so, if the padding is one too.
    integer = how.pad_value in range(256)
    steps: list[Step] = [Resize(how.keep_ratio)]
    if how.to_rgb or any(how.mean) or set(how.std) != {1.0} or not integer:
        steps.append(Normalize(_floats(how.mean), _floats(how.std), how.to_rgb))
    if how.pad or how.pad_value:
        value = float(how.pad_value)
        steps.append(Pad(divisor=how.pad or 1, value=(value, value, value)))
    return Pipeline(steps=tuple(steps)).text


def _floats(values: Triple) -> Triple:
    """So that 1 and 1.0 are the same text."""
    first, second, third = map(float, values)
    return first, second, third
