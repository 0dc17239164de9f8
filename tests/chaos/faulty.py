"""A runtime of another package: ONNX Runtime, and code that does harm once where it is told to.

The file of an act in the folder CHAOS_TRIGGERS tells it; it is removed first, so that one step does
it, once. Nothing of this is in a step's key, so the same steps are run with faults and without.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from pathlib import Path
from typing import Any

from farm.runtimes.base import Runtime

TRIGGERS = "CHAOS_TRIGGERS"


def crash() -> None:
    """Segmentation fault."""
    ctypes.string_at(0)


def hang() -> None:
    """Longer than every limit of the matrix."""
    time.sleep(600)


def use_memory() -> None:
    """More than the matrix allows."""
    kept = []
    while True:
        kept.append(bytearray(50_000_000))


ACTS = {"crash": crash, "hang": hang, "memory": use_memory}


def act() -> None:
    """Do what was asked for and not done yet."""
    for name, do in ACTS.items():
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(os.environ.get(TRIGGERS, ""), name))
            do()


class Engines:
    """ONNX files are the engines."""

    def build(self, onnx: Path, folder: Path, options: Any) -> None:
        act()
        (folder / "model.onnx").write_bytes(onnx.read_bytes())

    def open_engine(self, folder: Path, options: Any, threads: int) -> Session:
        act()
        from onnxruntime import InferenceSession

        return Session(InferenceSession((folder / "model.onnx").read_bytes()))


class Session:
    """An open engine."""

    def __init__(self, session: Any) -> None:
        self.session, self.names = session, [one.name for one in session.get_outputs()]

    def run(self, images: Any) -> dict[str, Any]:
        name = self.session.get_inputs()[0].name
        return dict(zip(self.names, self.session.run(self.names, {name: images}), strict=True))

    def close(self) -> None:
        self.session = None


RUNTIME = Runtime(name="faulty", short="FLT", packages=("onnxruntime",), engines=Engines)
