"""Modules run as their sources are, whatever bytecode of them lies about.

Python takes compiled code for current where the source's size and second of change are as they
were, and a key follows the source.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_NOWHERE = os.devnull
"""Nothing lies below a file, and nothing can be written there: Python goes on without."""


@contextmanager
def ignored() -> Iterator[None]:
    """What is imported in the block, or in the decorated function, is compiled anew.

    Libraries that were imported before stay as they are.
    """
    before = sys.pycache_prefix
    sys.pycache_prefix = _NOWHERE
    try:
        yield
    finally:
        sys.pycache_prefix = before
