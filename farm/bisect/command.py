"""`farm bisect`: find out where a cell leaves its reference, and print it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from farm.bisect import report
from farm.bisect.comparisons import Choices, Comparisons, threads
from farm.bisect.engines import Elsewhere, Here, Runs
from farm.errors import InputError

if TYPE_CHECKING:
    from farm.bisect.cells import BisectedCell
    from farm.bisect.report import Report

log = logging.getLogger(__name__)


def bisect(cell: BisectedCell, choices: Choices, as_json: bool) -> int:
    """Print where a cell leaves its reference. Returns 0 if it does not, else 1.

    Raises:
        InputError: the cell has no PyTorch to be compared with, and is to be.
        StepFailed: one of the sides cannot run.
    """
    if choices.against == "pytorch" and not cell.has_pytorch:
        raise InputError("its model is a ready ONNX file, without PyTorch", "--against pytorch")
    reports = []
    for one in _reports(cell, choices):
        reports.append(one)
        if not as_json:
            print(f"{report.as_text(one)}\n")
    if as_json:
        print(json.dumps([report.as_json(one) for one in reports], indent=1))
    else:
        print(report.conclusion(reports))
    return 1 if any(one.leaves for one in reports) else 0


def _reports(cell: BisectedCell, choices: Choices) -> Iterator[Report]:
    comparisons = Comparisons(cell, choices)
    if choices.against != "fp32" and cell.has_pytorch:
        log.info("Comparing the fp32 file with PyTorch")
        yield comparisons.pytorch()
    if choices.against != "pytorch":
        log.info("Comparing the engine with the fp32 file")
        yield comparisons.engine(_runs_of(cell), f"{cell.cell.runtime} in {cell.cell.precision}")


def _runs_of(cell: BisectedCell) -> Runs:
    """Return how the cell's engine runs: here, or in its environment."""
    here = Here(cell.options, threads())
    return here if cell.environment is None else Elsewhere(cell.environment, here)
