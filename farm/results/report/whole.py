"""The report of rows: a page with a section for each target, from rows, store and matrices."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from farm.config.schema import VerifySpec
from farm.errors import InputError

if TYPE_CHECKING:
    from farm.config.loader import Matrix
    from farm.results.columns import Row
    from farm.results.report.sections import Section
    from farm.specs import Tolerance
    from farm.store import Store

log = logging.getLogger(__name__)


def report_of(
    groups: Mapping[str, Sequence[Row]],
    store: Store,
    matrix_of: Callable[[str], Matrix],
    place: str | None = None,
    others: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Return the page.

    groups: the rows of each target. matrix_of: returns the matrix of a sweep; raises InputError or
    OSError where it is not kept here. place: `--results` of the commands; None for the default.
    others: by target the sweeps that are not shown.

    Raises:
        InputError: a package that it needs is not installed.
    """
    from farm.results.report.page import page
    from farm.results.report.plot import script

    library = script()  # an error now where it is not installed
    tolerance_of = _tolerances(matrix_of)
    sections = [
        _section(rows, store, tolerance_of, place, (others or {}).get(target, ()))
        for target, rows in groups.items()
    ]
    title = ", ".join(dict.fromkeys(sweep for one in sections for sweep in one.sweeps))
    return page(title, sections, library)


def by_target(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of each target, by its name."""
    targets = sorted({row["target"] for row in rows})
    return {one: [row for row in rows if row["target"] == one] for one in targets}


def _section(
    rows: Sequence[Row],
    store: Store,
    tolerance_of: Callable[[str, str], Tolerance],
    place: str | None,
    others: Sequence[str],
) -> Section:
    from farm.results.report.disagreements import disagreements
    from farm.results.report.pictures import Pictures
    from farm.results.report.sections import section

    pictures = disagreements(rows, store, tolerance_of, Pictures(store))
    return section(rows, store, place, others, list(pictures))


def _tolerances(matrix_of: Callable[[str], Matrix]) -> Callable[[str, str], Tolerance]:
    """What returns the tolerance of a sweep and a precision: that of the sweep's matrix, or the
    default one where the matrix is not kept here or only its owner may read it."""
    known: dict[str, VerifySpec] = {}

    def tolerance(sweep: str, precision: str) -> Tolerance:
        if sweep not in known:
            try:
                known[sweep] = matrix_of(sweep).spec.verify
            except (InputError, OSError) as error:
                log.warning(f"the pictures of {sweep} are drawn by default tolerances: {error}")
                known[sweep] = VerifySpec()
        return known[sweep].of(precision)

    return tolerance
