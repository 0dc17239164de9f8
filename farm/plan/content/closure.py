"""The farm's own code in the keys: a digest of all that a stage runs, without its comments.

A step's result depends on the code of its stage and on every module of the farm that this imports.
So their digest stands in the step's key: whoever changes or upgrades the farm does again what the
change can reach, and keeps all else. Comments, docstrings and blank lines change no digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from farm import catalog
from farm.plan.content.code import find_spec
from farm.plan.content.modules import Module, module_in, read

PACKAGE = Path(__file__).resolve().parents[2]

NEUTRAL = (
    *("farm.catalog", "farm.config", "farm.errors", "farm.failures", "farm.parts", "farm.plan"),
    *("farm.store", "farm.datasets.base", "farm.runtimes.base", "farm.specs"),
)
"""Modules and packages that no digest covers: inputs, names and what a plan looks at are in keys by
their values; errors and the store decide how results are reported and where they lie."""

_COUNTED = ("farm.specs.sizes", "farm.specs.pipeline", "farm.plan.content.config_files")
"""Modules of those packages that decide results all the same."""


def code_of(stage: str, values: Any) -> str:
    """Return the digest of the code that turns a stage's inputs into its result."""
    engine, dataset = getattr(values, "engine", None), getattr(values, "dataset", None)
    model = getattr(engine or values, "model", None)
    options = getattr(engine or values, "options", None)
    return code_for(
        stage,
        pipeline=getattr(values, "pipeline", None),
        dataset=dataset.type if dataset is not None else None,
        source=model.source if model is not None else None,
        runtime=options.runtime if options is not None else None,
    )


def code_for(
    stage: str,
    *,
    pipeline: str | None = None,
    dataset: str | None = None,
    source: str | None = None,
    runtime: str | None = None,
) -> str:
    """Return `code_of` by what chooses modules, which the stage finds by name at run time.

    pipeline: by which it prepares images. dataset: the type of data set that it opens. source: of
    the model that it loads. runtime: of the engine that it builds or runs.
    """
    roots = [f"farm.stages.{stage}"]
    if stage in catalog.EXTRA_STAGES:
        roots.append(catalog.EXTRA_STAGES[stage].module)
    if pipeline is not None:
        roots += [catalog.preparer_of(pipeline).module, "farm.specs.sizes"]
    if dataset is not None:
        roots.append(catalog.DATASETS[dataset].module)
    if source is not None:
        roots.append(catalog.SOURCES[source].module)
    if source is not None and stage == "check":  # it tries the pipeline that it finds
        roots += [one.module for one in catalog.preparers_of(source)]
    if runtime is not None:
        roots.append(catalog.RUNTIMES[runtime].module)
    return digest(tuple(inner for root in roots for inner in _in_farm(root)))


def _in_farm(root: str) -> tuple[str, ...]:
    """The root, or for a module of another package the farm's modules that it imports; its own
    code is in the key by its package."""
    return (root,) if _is_ours(root) else _imported_by(root.partition(".")[0])


def _is_ours(module: str) -> bool:
    return module.startswith(f"{PACKAGE.name}.")


@cache
def _imported_by(package: str) -> tuple[str, ...]:
    """The farm's modules that another package's files name in their imports."""
    spec = find_spec(package)
    origin = Path(spec.origin) if spec and spec.origin else None
    files = origin.parent.rglob("*.py") if origin and origin.name == "__init__.py" else [origin]
    read = (module_in(path.read_bytes()) for path in sorted(filter(None, files)))
    named = {name for module in read for name in module.imports}
    return tuple(sorted(filter(_is_ours, named)))


@cache
def digest(roots: tuple[str, ...], package: Path = PACKAGE, but: tuple[str, ...] = ()) -> str:
    """sha256 of the modules `roots` (`farm.stages.export`) and of all that they import; `but`:
    modules to leave out, with what only they import."""
    modules = {name: module for name, module in read(package).items() if name not in but}
    total = hashlib.sha256()
    for name in sorted(closure(roots, modules)):
        total.update(f"{name}\0{modules[name].digest}\n".encode())
    return total.hexdigest()


def closure(roots: Iterable[str], modules: Mapping[str, Module]) -> set[str]:
    """The names of all modules that `roots` run. Of a package on the way to a module (`a` and
    `a.b` of `a.b.c`), only what it imports at once counts."""
    reached: dict[str, bool] = {}
    waiting = [(root, True) for root in roots]
    while waiting:
        name, whole = waiting.pop()
        name = _module_of(name, modules)
        if not name or _is_neutral(name) or reached.get(name) in (True, whole):
            continue
        reached[name] = whole
        module = modules[name]
        waiting += [(other, True) for other in (module.imports if whole else module.at_import)]
        parts = name.split(".")
        # Without the outermost package, which holds the version and nothing that runs.
        waiting += [(".".join(parts[:length]), False) for length in range(2, len(parts))]
    return set(reached)


def _module_of(name: str, modules: Mapping[str, Module]) -> str:
    """The module that an imported name is, or that it is in; empty for another package's."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


@cache
def _is_neutral(name: str) -> bool:
    within = (name == one or name.startswith(f"{one}.") for one in NEUTRAL)
    probes = name.endswith(".probe")  # of `farm doctor`
    return probes or (name not in _COUNTED and any(within))
