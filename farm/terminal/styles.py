"""Print text that has rich's styles in it."""

from __future__ import annotations

import re
import sys
from typing import Any

_STYLE = re.compile(r"(\x1b\[[0-9;]*m)")
"""Select Graphic Rendition of ECMA-48: colours and weights, which change nothing but the look."""


def unguarded_stdout() -> Any:
    """Return stdout as it takes any text, below `terminal.PlainStream` where there is that."""
    return getattr(sys.stdout, "unguarded", sys.stdout)


def show(text: str) -> None:
    """Print text of which rows may have styles: those reach the terminal, and all else is printed
    as `print` does it, with other control characters made safe."""
    terminal = unguarded_stdout()
    for number, part in enumerate(_STYLE.split(text)):
        (terminal if number % 2 else sys.stdout).write(part)
    print()
