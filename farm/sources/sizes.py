"""Finds which heights and widths a network accepts, by running it on small images.

A network that downsamples its input, upsamples it again and concatenates both (YOLO's necks, HRNet)
accepts only multiples of its stride, or slightly smaller sizes where it rounds up. One that resizes
to the size of the other map (FPN) accepts any size. One without padding in its last layers (SSD)
has a smallest size.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from farm.failures import out_of_memory
from farm.specs import Sizes
from farm.specs.sizes import LEAST

log = logging.getLogger(__name__)

_BASES = (128, 256, 512)
"""Multiples of every usual stride; sizes near the first accepted one are tried."""

Run = Callable[[int], Any]
"""Runs the network on images of this height and width; raises where it does not accept them."""


def taken(*ways: Run) -> Sizes | None:
    """Return the accepted sizes; None where every size is accepted, or none of those tried.

    If none is, a later step that runs the model reports the reason.

    ways: functions that run the network; the first that runs at all is used.
    """
    for way in ways:
        runs = cache(partial(_runs, way))
        if base := next((size for size in _BASES if runs(size)), None):
            multiple = _multiple(runs, base)
            remainders = _remainders(runs, base, multiple)
            found = Sizes(multiple, remainders, _least(runs, multiple, base))
            return None if found == Sizes() else found
    return None


def _multiple(runs: Callable[[int], bool], base: int) -> int:
    """The smallest power of two that separates accepted sizes on both sides of `base`."""
    powers = (2**power for power in range(base.bit_length() - 1))
    return next((one for one in powers if runs(base + one) and runs(base - one)), base)


def _remainders(runs: Callable[[int], bool], base: int, multiple: int) -> tuple[int, ...]:
    """The remainders of accepted sizes near a multiple, where the network rounds up or down."""
    found = {0}
    for side in (-1, 1):
        steps = (2**power for power in range(multiple.bit_length() - 1))
        step = next((one for one in steps if runs(base + side * one)), multiple)
        away = step
        while away < multiple and runs(base + side * away):
            found.add(side * away % multiple)
            away += step
    return tuple(sorted(found))


def _least(runs: Callable[[int], bool], multiple: int, base: int) -> int:
    """The smallest accepted size, by bisection between one that is too small and `base`."""
    low, high = -(-LEAST // multiple), base // multiple
    if runs(low * multiple):
        return LEAST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if runs(middle * multiple) else (middle, high)
    return high * multiple


def _runs(run: Run, size: int) -> bool:
    try:
        run(size)
    except Exception as error:  # any layer may fail; only whether the size runs matters
        if out_of_memory(error):
            raise
        log.debug("not run at %dx%d: %s", size, size, error)
        return False
    return True
