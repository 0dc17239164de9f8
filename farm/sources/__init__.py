"""Model sources: where a detector comes from. One package each; one line in the catalog.

A source provides `check(model)`, `load(model)`, `Preparer` and `export_onnx`; see
`farm.sources.mmdet`.
"""

from __future__ import annotations

import importlib
from typing import Any

from farm.catalog import SOURCES


def source_module(name: str) -> Any:
    """The module of a source; its heavy imports happen when it is used."""
    return importlib.import_module(SOURCES[name][0])
