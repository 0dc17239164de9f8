"""Plug-ins: the library's own, and a user's libraries, loaded before anything is parsed or run."""

from __future__ import annotations

import ctypes
from typing import Any

from farm.errors import StepFailed
from farm.runtimes.trt.versions import Version


def load(library: Any, version: Version, logger: Any, paths: tuple[str, ...]) -> None:
    """A plug-in registers itself when its library is loaded, or is asked for its creators."""
    library.init_libnvinfer_plugins(logger, "")
    registry = library.get_plugin_registry()
    for path in paths:
        before = _count(registry, version)
        try:
            ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise StepFailed(f"plug-in library {path} cannot be loaded: {error}") from None
        if _count(registry, version) == before:
            registry.load_library(path)
        print(f"plug-in library {path}: {_count(registry, version) - before} creators", flush=True)


def _count(registry: Any, version: Version) -> int:
    return len(getattr(registry, version.creators))
