"""A plan as people and programs read it: cells, distinct steps per stage, what is done already."""

from __future__ import annotations

from collections import Counter
from typing import Any

from farm.plan import STAGES, Plan
from farm.store import Store

_SHOWN_CELLS = 40


def as_text(plan: Plan, store: Store) -> str:
    """Fits 80 columns, whatever the number of cells."""
    asked = Counter(stage for cell in plan.cells for stage in cell.steps)
    lines = [f"Matrix {plan.name}: {len(plan.cells)} cells, {len(plan.steps)} distinct steps"]
    lines += ["", f"{'stage':<10} {'cells':>7} {'steps':>7} {'in store':>9}"]
    for stage in STAGES:
        if steps := plan.of_stage(stage):
            done = sum(store.record(step.ref) is not None for step in steps)
            lines.append(f"{stage:<10} {asked[stage]:>7} {len(steps):>7} {done:>9}")
    lines += ["", "cells:"]
    lines += [f"  {one.cell.id}" for one in plan.cells[:_SHOWN_CELLS]]
    if (more := len(plan.cells) - _SHOWN_CELLS) > 0:
        lines.append(f"  ... and {more} more (--json lists all)")
    for one in plan.cells:
        if one.refused:
            lines.append(f"  refused: {one.cell.id}: {one.refused}")
    if plan.unchecked:
        lines += ["", f"Not checked yet: {', '.join(plan.unchecked)}."]
        lines.append("Models with the same test pipeline will share `prepare` once checked.")
    if plan.missing:
        lines += ["", "Not there, and needed by `farm run`:"]
        lines += [f"  {error}" for error in plan.missing]
    return "\n".join(lines)


def as_json(plan: Plan, store: Store) -> dict[str, Any]:
    """`steps` by key, parents first; `cells` name the key of each of their stages."""
    return {
        "name": plan.name,
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
                "in_store": store.record(step.ref) is not None,
            }
            for key, step in plan.steps.items()
        },
        "missing": [str(error) for error in plan.missing],
        "unchecked": list(plan.unchecked),
    }
