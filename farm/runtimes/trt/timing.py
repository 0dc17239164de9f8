"""The timing cache: how long kernels took, kept from build to build of one GPU and version."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

from farm.runtimes.trt.cuda import Gpu


def file_of(place: str, library: str, version: str, gpu: Gpu) -> Path:
    """`place` itself, or in a folder the file of this GPU model and version."""
    path = Path(place)
    if not place.endswith("/") and not path.is_dir():
        return path
    name = f"{library}-{version}-{gpu.name}-sm{gpu.compute_capability}-{gpu.branch}.cache"
    return path / name.replace(" ", "_").replace("/", "_")


def load(config: Any, path: Path) -> None:
    """Give a build what is known so far. A cache that does not fit is left aside."""
    cache = config.create_timing_cache(_read(path))
    if cache is None or not config.set_timing_cache(cache, False):
        print(f"timing cache {path} is of another GPU or version: begun anew", flush=True)
        config.set_timing_cache(config.create_timing_cache(b""), False)


def blamed(errors: list[str]) -> bool:
    """Whether a failed build names the cache. Seen with 8.6: Myelin's part of a graph fails with
    `The timing cache will not be used`, once other models' builds have filled it."""
    return any("timing cache" in text.lower() for text in errors)


def save(config: Any, path: Path) -> None:
    """Keep what the build learnt, with what other builds saved meanwhile; by one rename."""
    cache = config.get_timing_cache()
    others = config.create_timing_cache(_read(path))
    if others is not None and others.combine(cache, False):
        cache = others
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{uuid4().hex}")
    part.write_bytes(memoryview(cache.serialize()))
    part.replace(path)


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""
