"""Which heights and widths a network takes, found by running it on small images.

A network that halves its input several times, doubles it again and joins both (YOLO's necks, HRNet)
takes multiples of its stride only, or a little less where it rounds up. One that resizes to the
size of what it joins (FPN) takes any. One without padding in its last layers (SSD) has a least.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from farm.errors import out_of_memory
from farm.specs import Sizes
from farm.specs.sizes import LEAST

log = logging.getLogger(__name__)

_BASES = (128, 256, 512)
"""Multiples of every stride: around the first that the network takes, others are tried."""

Run = Callable[[int], Any]
"""Runs the network on images of this height and width; raises where it does not take them."""


def taken(*ways: Run) -> Sizes | None:
    """None where any size is taken, or where none is and using the model will say why.

    ways: to run the network; the first that runs at all is asked.
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
    """The least power of two by which sizes on both sides of `base` are apart."""
    powers = (2**power for power in range(base.bit_length() - 1))
    return next((one for one in powers if runs(base + one) and runs(base - one)), base)


def _remainders(runs: Callable[[int], bool], base: int, multiple: int) -> tuple[int, ...]:
    """Those next to a whole multiple that run: what is rounded up or down has a way to go."""
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
    """By bisection between a size that is too small and `base`, which is not."""
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
    except Exception as error:  # of any layer; the sizes that run are what is asked for
        if out_of_memory(error):
            raise
        log.debug("not run at %dx%d: %s", size, size, error)
        return False
    return True
