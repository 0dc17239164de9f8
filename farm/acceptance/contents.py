"""What a pack says of itself: its cells with their frozen inputs, as JSON.

pack.json                the `Pack`
store/                   what `check`, `prepare`, `reference` and `export` left, as in a store;
                         an ONNX file in parts (see `signs`)
blocks/                  large layers, each once
python3.10/              packages for that Python, unpacked; for a machine without pip
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from farm import jsonfile
from farm.config.loader import Cell
from farm.decoded import decoded
from farm.errors import InputError, nearest
from farm.plan import STAGES
from farm.specs import BuildInputs, EvaluateInputs, MeasureInputs, Ref, Target, VerifyInputs

VERSION = 3
NAME, STORE, BLOCKS = "pack.json", "store", "blocks"


@dataclass(frozen=True)
class PackedCell:
    """A cell, the keys of its steps that are done, and what is left to do.

    refused: why it has nothing left to do. evaluate: None for raw outputs, which have no AP.
    """

    cell: Cell
    done: dict[str, str]
    build: BuildInputs | None = None
    verify: VerifyInputs | None = None
    evaluate: EvaluateInputs | None = None
    measure: MeasureInputs | None = None
    refused: str | None = None

    @property
    def refs(self) -> list[Ref]:
        return [Ref(stage, key) for stage, key in self.done.items()]


@dataclass(frozen=True)
class Pack:
    """name: of the sweep. verify: the matrix's thresholds. threads: those that it sets for
    `measure`, None for all cores of the machine."""

    version: int
    name: str
    verify: dict[str, Any]
    threads: int | None
    targets: tuple[Target, ...]
    cells: tuple[PackedCell, ...]


def write(pack: Pack, folder: Path) -> None:
    (folder / NAME).write_text(json.dumps(asdict(pack), indent=1))


def read(folder: Path) -> Pack:
    """Raises InputError for what is no pack, or one of another version."""
    path = folder / NAME
    pack = decoded(Pack, read_json(path, "pack", VERSION), str(path))
    for ref in (ref for cell in pack.cells for ref in cell.refs):
        require_ref(ref, str(path))
    return pack


def require_ref(ref: Ref, where: str) -> None:
    """Names become paths. Raises InputError for a stage or a key that is none."""
    if ref.stage not in STAGES:
        raise InputError(f"unknown stage {ref.stage!r}{nearest(ref.stage, STAGES)}", where)
    if not re.fullmatch("[0-9a-f]{64}", ref.key):
        raise InputError(f"{ref.stage}: {ref.key!r} is not a key; expected 64 hex digits", where)


def read_json(path: Path, kind: str, version: int) -> Mapping[str, Any]:
    """The JSON of a file that begins with its version. Raises InputError."""
    try:
        found = jsonfile.read(path)
    except OSError as error:
        reason = f"no {kind} here: cannot read {path.name} ({error.strerror})"
        raise InputError(reason, str(path.parent)) from None
    except ValueError as error:
        raise InputError(f"torn, or not a {kind}: not valid JSON ({error})", str(path)) from None
    said = found.get("version") if isinstance(found, dict) else None
    if said != version:
        raise InputError(
            f"a {kind} of version {said!r}; this farm reads version {version}", str(path)
        )
    return dict(found)
