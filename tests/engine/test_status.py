"""The statuses of steps and cells, and the table of a step's transitions."""

from __future__ import annotations

import itertools
import json
import pickle

import pytest

from farm.engine.status import (
    CELL_STATUSES,
    TRANSITIONS,
    CellStatus,
    InvalidTransition,
    Outcome,
    StepStatus,
    StepStatuses,
    failure_reasons,
    skip_reasons,
)

FINAL = {one for one, allowed in TRANSITIONS.items() if not allowed}


def path_to(wanted: StepStatus) -> tuple[StepStatus, ...]:
    """The transitions that lead from WAITING to a status."""
    paths = {StepStatus.WAITING: ()}
    while wanted not in paths:
        for old, path in list(paths.items()):
            paths |= {new: (*path, new) for new in TRANSITIONS[old] if new not in paths}
    return paths[wanted]


@pytest.mark.parametrize(("old", "new"), [*itertools.product(StepStatus, repeat=2)])
def test_a_status_changes_as_the_table_says_and_in_no_other_way(
    old: StepStatus, new: StepStatus
) -> None:
    statuses = StepStatuses(["k"])
    for one in path_to(old):
        statuses.change("k", one)
    if new in TRANSITIONS[old]:
        statuses.change("k", new)
        assert statuses["k"] is new
        return
    with pytest.raises(InvalidTransition, match=f"step k is {old} and cannot become {new}"):
        statuses.change("k", new)
    assert statuses["k"] is old


def test_every_status_is_in_the_tables() -> None:
    assert set(TRANSITIONS) == set(CELL_STATUSES) == set(StepStatus)
    assert set(StepStatus) - FINAL == {
        StepStatus.WAITING, StepStatus.RUNNING, StepStatus.TRANSIENT, StepStatus.DONE,
    }  # fmt: skip


def test_statuses_are_their_values_where_they_are_written() -> None:
    assert f"{CellStatus.OK} {StepStatus.BLOCKED}" == "ok blocked"
    assert json.dumps([CellStatus.PENDING, StepStatus.DONE]) == '["pending", "done"]'
    # As Parquet has them.
    assert [one.value for one in CellStatus] == ["ok", "failed", "pending", "skipped"]
    assert pickle.loads(pickle.dumps(StepStatus.DONE)) is StepStatus.DONE


def test_a_cell_fails_with_the_steps_that_fail_by_themselves() -> None:
    ends = [Outcome(status.value, status, f"because {status}") for status in StepStatus]
    assert failure_reasons(ends) == {
        key: f"because {key}" for key in ("failed", "input", "transient")
    }
    assert skip_reasons(ends) == {"skipped": "because skipped"}
    assert CELL_STATUSES[StepStatus.DONE] is CellStatus.OK
    assert CELL_STATUSES[StepStatus.BLOCKED] is CellStatus.PENDING
