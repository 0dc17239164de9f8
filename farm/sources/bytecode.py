"""A model's own code runs as its sources are, whatever bytecode of it lies about.

Python takes compiled code for current where the source's size and second of change are as they
were, and a key follows the source.
"""

from __future__ import annotations

import importlib._bootstrap_external
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from farm.sources.origin import origin

_machinery: Any = importlib._bootstrap_external


@contextmanager
def ignored() -> Iterator[None]:
    """The user's code that is imported in the block, or the decorated function, is compiled anew.

    Libraries keep theirs: Torch alone loads hundreds of modules when a first model is built.
    """
    real = _machinery.cache_from_source

    def place(source: str, *rest: object, **named: object) -> str:
        """Where the bytecode of a source is; the error is how Python hears that there is none."""
        if origin(source) == "own":
            raise NotImplementedError
        found: str = real(source, *rest, **named)
        return found

    _machinery.cache_from_source = place
    try:
        yield
    finally:
        _machinery.cache_from_source = real
