"""Limits of a step: defaults, those of a matrix, and how much memory is used."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from farm.config.schema import LimitsSpec
from farm.engine.workers import limits
from farm.engine.workers.limits import DEFAULT_SECONDS, Limit, Limits, limits_of, used_memory
from farm.failures import FailureKind
from farm.parts.stages import STAGES, TABLE_STAGES
from farm.store import Failure


def test_every_stage_has_a_limit() -> None:
    assert DEFAULT_SECONDS.keys() == {stage.name for stage in (*STAGES, *TABLE_STAGES)}
    minutes = {"check": 5, "table.config": 5}
    hours = {
        "prepare": 1, "reference": 2, "export": 1, "convert": 6, "build": 6, "verify": 2,
        "evaluate": 12, "measure": 1, "compare": 4, "table.reference": 1, "table.trial": 1,
    }  # fmt: skip
    assert {name: 60 * minutes.get(name, 60 * hours.get(name, 0)) for name in DEFAULT_SECONDS} == (
        DEFAULT_SECONDS
    )
    assert Limits().of("check") == Limit(300.0, None, True, 1.0)
    assert Limits().of("weigh") == Limit(DEFAULT_SECONDS["evaluate"])


def test_a_matrix_sets_limits_by_stage() -> None:
    spec = LimitsSpec.model_validate(
        {"check": "10m", "build": "1h30m", "memory": "2GiB", "stages": {"weigh": "9s"}}
    )
    found = limits_of(spec)
    assert found.of("check") == Limit(600.0, 2 << 30) and found.of("build").seconds == 5400
    assert found.of("weigh").seconds == 9 and found.of("measure").seconds == 3600
    assert set(LimitsSpec.model_fields) - {"memory", "stages"} == {stage.name for stage in STAGES}


@pytest.mark.parametrize("value", ["0s", "nan", "-1", "inf", "1e999s", "x", "5", 5, "", "5 m"])
def test_what_is_no_time_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not a time; write 90s, 5m, 2h or 1h30m"):
        LimitsSpec.model_validate({"check": value})


def test_the_memory_of_a_step_is_that_of_the_machine_or_less() -> None:
    total = psutil.virtual_memory().total
    assert 0 < Limit(1.0).most_bytes <= 0.9 * total
    assert Limit(1.0, 123).most_bytes == 123


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, None),
        ({"memory.max": "1073741824\n"}, 1 << 30),
        ({"memory.max": "max\n"}, None),
        ({"memory/memory.limit_in_bytes": "536870912\n"}, 1 << 29),
        ({"memory.max": str(1 << 60)}, None),
    ],
)
def test_a_container_may_use_less_than_the_machine_has(
    files: dict[str, str], found: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(limits, "Path", lambda _, name: tmp_path / name)
    assert limits.machine_memory.__wrapped__() == (found or psutil.virtual_memory().total)


def test_only_a_higher_limit_allows_more() -> None:
    def allowed(limit: Limit, kind: FailureKind, reached: float) -> bool:
        return limit.allows_more_than(Failure("build", "k", "l", "r", kind, reached))

    assert allowed(Limit(61), FailureKind.TIMEOUT, 60) and not allowed(
        Limit(60), FailureKind.TIMEOUT, 60
    )
    assert allowed(Limit(1, 101), FailureKind.OOM, 100)
    assert not allowed(Limit(1, 100), FailureKind.OOM, 100)
    assert not allowed(Limit(9), FailureKind.OOM, 0.0)
    assert not allowed(Limit(9), FailureKind.CRASH, 0.5)
    assert allowed(Limit(9), FailureKind.TIMEOUT, 0.5)


def test_memory_is_counted_of_all_processes_and_without_mapped_files() -> None:
    before = used_memory([os.getpid()])
    assert before % 1024 == 0
    block = bytearray(64 << 20)
    assert used_memory([os.getpid()]) - before >= 60 << 20
    assert used_memory([os.getpid(), os.getpid()]) == pytest.approx(
        2 * used_memory([os.getpid()]), rel=0.1
    )
    assert used_memory([2**22 + 1]) == 0 and len(block) and limits.machine_memory() > 1 << 28
