"""`farm bisect`: find out where a cell leaves its reference, and print it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from farm.bisect import report
from farm.bisect.comparisons import Choices, Comparisons
from farm.bisect.engines import Elsewhere, Here
from farm.bisect.releases import Versions, first_that_leaves
from farm.errors import InputError
from farm.plan.machines.placement import cores

if TYPE_CHECKING:
    from farm.bisect.cells import BisectedCell
    from farm.bisect.report import Report

log = logging.getLogger(__name__)


def bisect(cell: BisectedCell, choices: Choices, versions: Versions | None, as_json: bool) -> int:
    """Print where a cell leaves its reference. Returns 0 if it does not, else 1.

    versions: releases of its runtime, to be tried in their order instead of the cell's own. Where
    none of them leaves the reference and one cannot be tried, 1 is returned, too.

    Raises:
        InputError: the cell has no PyTorch to be compared with, and is to be; or the releases are
            those of another runtime.
        StepFailed: one of the sides cannot run.
    """
    if choices.against == "pytorch" and not cell.has_pytorch:
        raise InputError("its model is a ready ONNX file, without PyTorch", "--against pytorch")
    if versions is None:
        reports = _shown(_reports(cell, choices), as_json)
        if not as_json:
            print(report.conclusion(reports))
        return _code(reports)
    versions.require(cell.options.runtime)
    failed: list[str] = []
    here = Here(cell.options, cores())
    each = first_that_leaves(Comparisons(cell, choices), versions, here, failed)
    reports = _shown(each, as_json)
    if not as_json:
        count = f"{len(reports)} of {len(versions.releases)} releases"
        tried = f"{count} {'was' if len(reports) == 1 else 'were'} compared"
        none = f"None leaves the tolerance; {tried}."
        print(report.conclusion(reports, none, "The first release that differs: "))
    return _code(reports) or int(bool(failed))


def _reports(cell: BisectedCell, choices: Choices) -> Iterator[Report]:
    comparisons, here = Comparisons(cell, choices), Here(cell.options, cores())
    if choices.against != "fp32" and cell.has_pytorch:
        log.info("Comparing the fp32 file with PyTorch")
        yield comparisons.pytorch()
    if choices.against != "pytorch":
        log.info("Comparing the engine with the fp32 file")
        runs = here if cell.environment is None else Elsewhere(cell.environment, here)
        yield comparisons.engine(runs, f"{cell.cell.runtime} in {cell.cell.precision}")


def _shown(reports: Iterable[Report], as_json: bool) -> list[Report]:
    """Print reports as they come, or all of them as JSON at the end."""
    found = []
    for one in reports:
        found.append(one)
        if not as_json:
            print(f"{report.as_text(one)}\n", flush=True)
    if as_json:
        print(json.dumps([report.as_json(one) for one in found], indent=1))
    return found


def _code(reports: Iterable[Report]) -> int:
    return 1 if any(one.leaves for one in reports) else 0
