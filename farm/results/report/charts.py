"""Vega-Lite as images and as a script, by vl-convert: no browser and no network."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from farm.errors import InputError

if TYPE_CHECKING:
    from farm.results.report.plot import Spec

FORMATS = ("png", "svg")

_SCALE = 2.0
"""Pixels of a PNG for each unit of the plot, so that it is sharp on any screen."""

MISSING = (
    "the package vl-convert-python, which draws the plots, is not installed; "
    "`pip install 'farm[report]'` (in a checkout: `pip install '.[report]' -c constraints.txt`)"
)


@cache
def script() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script for a page: 0.9 MB.

    Raises:
        InputError: vl-convert is not installed.
    """
    bundle: str = _vl_convert().javascript_bundle()
    return bundle


def drawn(spec: Spec, form: str) -> bytes:
    """Return a plot as an image in one of `FORMATS`.

    Raises:
        InputError: vl-convert is not installed.
    """
    convert = _vl_convert()
    if form == "svg":
        text: str = convert.vegalite_to_svg(spec)
        return text.encode()
    image: bytes = convert.vegalite_to_png(spec, scale=_SCALE)
    return image


def _vl_convert() -> Any:
    try:
        import vl_convert
    except ImportError:
        raise InputError(MISSING) from None
    return vl_convert
