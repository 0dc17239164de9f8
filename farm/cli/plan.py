"""Show a plan as text and as JSON: its cells, its steps by stage, and what the store has."""

from __future__ import annotations

import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.plan.content.files import NotThere
from farm.plan.steps import STAGES, Plan, PlannedCell
from farm.terminal import plain
from farm.terminal.tables import table
from farm.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from farm.errors import InputError
    from farm.store import Store

WIDTH = 80
_SHOWN_CELLS = 40


@dataclass(frozen=True)
class Duration:
    """How long a sweep will take. slots: the steps that run at a time. known: whether steps of its
    stages and models have been run before, by which it is estimated."""

    seconds: float
    slots: int
    known: bool


def as_text(plan: Plan, store: Store, duration: Duration | None = None) -> str:
    """Return the plan as text of 80 columns, whatever the number of cells."""
    title = f"Matrix {plan.name}: {len(plan.cells)} cells, {len(plan.steps)} distinct steps"
    parts = [
        [title],
        _stages(plan, store),
        _duration(duration),
        _targets(plan),
        _cells(plan.cells),
        _refused(plan.cells),
        _unchecked(plan),
        _unmade(plan),
        _unfollowed(plan),
        _missing(plan.missing),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def _stages(plan: Plan, store: Store) -> list[str]:
    """The number of cells that need each stage, and of the distinct steps that they share."""
    cells = Counter(stage for cell in plan.cells for stage in cell.steps)
    steps = defaultdict(list)
    for step in plan.steps.values():
        steps[step.stage].append(step)
    rows = []
    for stage in STAGES:
        if own := steps[stage]:
            done = sum(store.record(step.ref) is not None for step in own)
            rows.append((stage, str(cells[stage]), str(len(own)), str(done)))
    counts = table(("stage", "cells", "steps", "in store"), rows, (False, True, True, True))
    return [counts, "(how many cells need a stage, and how many steps do it for them)"]


def _duration(duration: Duration | None) -> list[str]:
    """How long it will take, and by what that is known."""
    if duration is None:
        return []
    if not duration.seconds:
        return ["All of it is done."]
    by = "by earlier steps" if duration.known else "a guess, since nothing like it has run here"
    cores = f"{duration.slots} core{'s' if duration.slots > 1 else ''}"
    about = format_seconds(duration.seconds)
    return _wrapped("", f"It will take about {about} on the {cores} of this machine ({by}).")


def _targets(plan: Plan) -> list[str]:
    """The number of cells of each runtime for each target, where there are several targets."""
    counts = Counter((one.cell.runtime, one.cell.target) for one in plan.cells)
    targets = list(dict.fromkeys(target for _, target in counts))
    if len(targets) < 2:
        return []
    rows = [
        [runtime, *(str(counts[runtime, target] or "") for target in targets)]
        for runtime in dict.fromkeys(runtime for runtime, _ in counts)
    ]
    return [table(["cells", *targets], rows, [False, *(True for _ in targets)])]


def _cells(cells: tuple[PlannedCell, ...]) -> list[str]:
    """Each cell where they are few, else the values of each axis."""
    if len(cells) <= _SHOWN_CELLS:
        return ["cells:", *(f"  {one.cell.id}" for one in cells)]
    lines = []
    for axis, name in _AXES.items():
        values = dict.fromkeys(getattr(one.cell, axis) for one in cells)
        shown = ", ".join(_text(axis, value) for value in values if value is not None)
        lines += _wrapped(f"{name:<13} ", shown)
    return [*lines, "(--json lists every cell and step)"]


_AXES = {
    "model": "models",
    "opset": "opsets",
    "shape": "shapes",
    "postprocess": "postprocess",
    "precision": "precisions",
    "workspace_bytes": "workspaces",
}


def _text(axis: str, value: Any) -> str:
    return format_bytes(value) if axis == "workspace_bytes" else str(value)


def _refused(cells: tuple[PlannedCell, ...]) -> list[str]:
    """The cells that cannot be run, by reason."""
    by_reason = defaultdict(list)
    for one in cells:
        if one.refused:
            by_reason[one.refused].append(one.cell.id)
    lines = []
    for reason, names in by_reason.items():
        which = names[0] if len(names) == 1 else f"{len(names)} cells, such as {names[0]}"
        lines += _wrapped("  refused: ", f"{which}: {reason}")
    return lines


def _unchecked(plan: Plan) -> list[str]:
    if not plan.unchecked:
        return []
    return [
        *_wrapped("Not checked yet, or changed since: ", f"{', '.join(plan.unchecked)}."),
        "Once they are checked, models with the same test pipeline will share `prepare`.",
    ]


def _unmade(plan: Plan) -> list[str]:
    """The runtimes whose environments are not made yet."""
    if not plan.unmade:
        return []
    return [
        *_wrapped("Environments not made yet: ", f"{', '.join(plan.unmade)}."),
        "`farm run` makes them; until then the keys of their steps are provisional.",
    ]


def _unfollowed(plan: Plan) -> list[str]:
    """What the models' code uses and a plan cannot check for changes."""
    what = "; ".join(f"{name} {', '.join(used)}" for name, used in plan.unfollowed.items())
    return _wrapped("Changes that a plan cannot see: ", f"{what}.") if what else []


def _missing(errors: Iterable[InputError]) -> list[str]:
    """The missing files by their folder, each with its line. Errors without a line (those of an
    override, for instance) stay as they are."""
    groups: dict[tuple[str, Path, str], list[NotThere]] = defaultdict(list)
    others = []
    for error in errors:
        if isinstance(error, NotThere) and re.search(r".:\d+$", error.where):
            groups[error.kind, error.path.parent, error.what].append(error)
        else:
            others += _wrapped("  ", str(error))
    if not groups and not others:
        return []
    found = [
        line
        for (kind, folder, what), own in groups.items()
        for line in _group(kind, folder, what, own)
    ]
    return ["Missing, and needed by `farm run`:", *others, *found]


def _group(kind: str, folder: Path, what: str, errors: list[NotThere]) -> Iterator[str]:
    if len(errors) == 1:
        yield from _wrapped("  ", str(errors[0]))
        return
    file = errors[0].where.rpartition(":")[0]
    yield from _wrapped(
        "  ", f"{len(errors)} {kind}s, each of which {what}, in {folder}, by their lines in {file}:"
    )
    for error in errors:
        yield plain(f"  {error.where.rpartition(':')[2]:>3} {error.path.name}")


def _wrapped(begin: str, text: str) -> list[str]:
    """The text in lines of WIDTH columns; only a path may be longer."""
    return textwrap.wrap(
        plain(text, "\n"),  # which `wrap` turns into a space
        WIDTH,
        initial_indent=begin,
        subsequent_indent=" " * len(begin),
        break_long_words=False,
        break_on_hyphens=False,
    )


def as_json(plan: Plan, store: Store, duration: Duration | None = None) -> dict[str, Any]:
    """Return the plan as JSON values: `steps` by key, parents first, and `cells`, each with the key
    of the step of each of its stages. `estimated_s`: how long it will take."""
    return {
        "name": plan.name,
        "estimated_s": round(duration.seconds, 1) if duration else None,
        "cells": [
            {"cell": one.cell.id, "refused": one.refused, "steps": dict(one.steps)}
            for one in plan.cells
        ],
        "steps": {
            key: {
                "stage": step.stage,
                "label": step.label,
                "parents": list(step.parents),
                "exclusive": step.needs.exclusive,
                "accelerator": step.needs.accelerator,
                "environment": step.environment.name if step.environment else None,
                "in_store": store.record(step.ref) is not None,
            }
            for key, step in plan.steps.items()
        },
        "missing": [str(error) for error in plan.missing],
        "unchecked": list(plan.unchecked),
        "unmade": list(plan.unmade),
        "unfollowed": {name: list(what) for name, what in plan.unfollowed.items()},
    }
