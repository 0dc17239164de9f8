"""Describe a pack: a sweep's cells, its remaining steps with frozen inputs, and its files.

pack.json                           the `Pack`; the first member of the archive
store/<stage>/<2 digits>/<key>/...  the artifacts of the stages before the build, as in a store
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from farm.catalog import OWN_STAGES, RUNTIMES
from farm.errors import InputError, nearest
from farm.files import jsonfile
from farm.offline.manifest import require_cells, require_key, require_ref, require_version
from farm.plan import Needs, PlannedCell
from farm.specs import (
    CachePath,
    EngineOptions,
    Ref,
    refs_of,
)
from farm.store.figures import count

VERSION = 5
NAME = "pack.json"

BEFORE = tuple(name for name, stage in OWN_STAGES.items() if not stage.on_target)
"""The stages that are run before a sweep is packed."""

INPUTS: Mapping[str, type] = {
    name: stage.inputs for name, stage in OWN_STAGES.items() if stage.on_target and not stage.joint
}
"""The stages that remain, with the inputs of each. What is measured elsewhere is not ranked."""

LIBRARIES = ("plugins", "trt_extra_plugin_lib_paths")
"""The options that name libraries. They are not packed, and not accepted from a pack."""

_FILE = re.compile(r"store/(\w+)/([0-9a-f]{2})/(\2[0-9a-f]{62})/.+")


@dataclass(frozen=True)
class PackedFile:
    """A file of the pack: its size in bytes and its sha256."""

    size: int
    digest: str


@dataclass(frozen=True)
class PackedStep:
    """A step that remains to be run.

    packages: those whose versions are in its key. parents: the keys of the steps of the pack that
    must be done before.
    """

    stage: str
    key: str
    label: str
    inputs: Any
    packages: tuple[str, ...]
    parents: tuple[str, ...]
    needs: Needs


@dataclass(frozen=True)
class Pack:
    """The part of a sweep that is packed.

    name: of the sweep. verify, limits: as the matrix has them. threads: those that it sets for
    `measure`; None for all cores of the machine. any_processor: the CPU targets for which the
    matrix names no processor. reasons: by a step's key, why it failed before the sweep was packed.
    files: of the archive, by name.
    """

    version: int
    name: str
    verify: dict[str, Any]
    limits: dict[str, Any]
    threads: int | None
    any_processor: tuple[str, ...]
    cells: tuple[PlannedCell, ...]
    steps: tuple[PackedStep, ...]
    reasons: dict[str, str]
    files: dict[str, PackedFile]

    @property
    def carried(self) -> list[Ref]:
        """List the steps whose records are in the pack, each once."""
        found = (_FILE.fullmatch(name) for name in self.files)
        return list(dict.fromkeys(Ref(one[1], one[3]) for one in found if one))


def as_json(pack: Pack) -> bytes:
    """Return the pack's description as JSON."""
    return json.dumps(asdict(pack), indent=1).encode()


def parse(data: bytes, where: str) -> Pack:
    """Read and check the description of a pack.

    Raises:
        InputError: it is damaged, or names what `farm pack` does not write.
    """
    try:
        found = jsonfile.parse(data)
    except ValueError as error:
        raise InputError(f"damaged, or not a pack: not valid JSON ({error})", where) from None
    pack = jsonfile.decode(Pack, require_version(found, "pack", (VERSION,), where), where)
    pack = replace(pack, steps=tuple(_with_inputs(step, where) for step in pack.steps))
    try:
        require_cells(pack.name, (one for one in pack.cells))
    except (ValueError, InputError) as error:
        raise InputError(str(error), where) from None
    _require_files(pack, where)
    _require_steps(pack, where)
    for cell in pack.cells:
        for stage, key in cell.steps.items():
            require_ref(Ref(stage, key), where)
    return pack


def _with_inputs(step: PackedStep, where: str) -> PackedStep:
    """The step with its inputs as a dataclass of its stage. Raises InputError."""
    if step.stage not in INPUTS:
        raise InputError(f"unknown stage {step.stage!r}{nearest(step.stage, INPUTS)}", where)
    require_key(step.key, step.stage, where)
    inputs: Any = jsonfile.decode(INPUTS[step.stage], step.inputs, where)
    options = inputs.options if step.stage == "build" else inputs.engine.options
    _require_options(options, where)
    options = replace(options, options=tuple(_option(*one) for one in options.options))
    if step.stage == "build":
        return replace(step, inputs=replace(inputs, options=options))
    if inputs.engine.model is not None or inputs.engine.built is None:
        raise InputError(f"{step.stage} {step.label}: expected a built engine", where)
    return replace(step, inputs=replace(inputs, engine=replace(inputs.engine, options=options)))


def _require_options(options: EngineOptions, where: str) -> None:
    if options.runtime not in RUNTIMES:
        hint = nearest(options.runtime, RUNTIMES)
        raise InputError(f"unknown runtime {options.runtime!r}{hint}", where)
    if named := libraries(dict(options.options)):
        raise InputError(f"option {named[0]!r}: a pack may not name libraries to load", where)


def libraries(options: Mapping[str, Any]) -> list[str]:
    """Return the names of set options that make a runtime load libraries, also of nested ones."""
    return [name for name in _names(options) if name in LIBRARIES]


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if inner:
                yield str(name)
            yield from _names(inner)


def _option(name: str, value: Any) -> tuple[str, Any]:
    """An option as the frozen inputs have it; the timing cache, a mapping in JSON, is replaced
    by `relocate`."""
    return name, CachePath("") if name == "timing_cache" else value


def _require_files(pack: Pack, where: str) -> None:
    for name, file in pack.files.items():
        found = _FILE.fullmatch(name)
        if not found or found[1] not in BEFORE:
            raise InputError(f"{name!r} is no file of {', '.join(BEFORE)}", where)
        if not count(file.size):
            raise InputError(f"{name!r}: expected a size in bytes, not {file.size}", where)


def _require_steps(pack: Pack, where: str) -> None:
    """Check that every step needs only what the pack carries or an earlier step makes."""
    known, carried = set[str](), set(pack.carried)
    for step in pack.steps:
        absent = [key for key in step.parents if key not in known]
        absent += [
            ref.key
            for ref in refs_of(step.inputs)
            if ref not in carried and not (ref.stage == "build" and ref.key in known)
        ]
        if absent:
            missing = f"{absent[0][:12]} is neither in the pack nor made before"
            raise InputError(f"incomplete: {step.stage} {step.label}: {missing}", where)
        known.add(step.key)
