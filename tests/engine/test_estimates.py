"""What steps are expected to take, of those before them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from test_scheduler import step

from farm.engine.estimates import (
    Estimate,
    Estimates,
    Kind,
    default_seconds,
    read_estimates,
    write_estimates,
)
from farm.engine.status import Outcome, StepStatus
from farm.failures import FailureKind

GIB = 1 << 30
OWN = step("a")
NAME = "export"


def test_a_kind_is_named_with_its_model_and_without() -> None:
    assert Kind("build", "tensorrt", "a").names == ("build/tensorrt/a", "build/tensorrt")
    assert Kind("build", "tensorrt", "a").any_runtime == "build/*/a"
    assert Kind("export", None, "a").names == ("export/a", "export")
    assert Kind("build", "tensorrt", None).names == ("build/tensorrt",)
    assert Kind("export", None, "a").any_runtime is Kind("a", "b", None).any_runtime is None


def test_what_is_expected_of_a_step_of_which_nothing_is_known() -> None:
    expected = {
        "check": 5, "prepare": 5, "reference": 20, "export": 20, "convert": 60, "build": 20,
        "verify": 5, "evaluate": 60, "measure": 3, "compare": 30, "of another package": 60,
    }  # fmt: skip
    assert {one: default_seconds(replace(OWN, stage=one)) for one in expected} == expected
    gpu = replace(OWN.needs, accelerator="H200")
    assert default_seconds(replace(OWN, stage="build", needs=gpu)) == 300
    assert default_seconds(replace(OWN, stage="verify", needs=gpu)) == 5
    found = Estimates()
    assert found.seconds(OWN) == 20 and found.memory_bytes(OWN) == 2 * GIB
    assert found.gpu_bytes(OWN) == 0 and not found.knows(OWN)
    assert found.of("a", None) is None


def test_the_mean_is_of_the_last_ten_steps_and_a_peak_fades() -> None:
    one = Estimate(10.0, 1000, gpu_bytes=100)
    assert one.with_another(20.0, 500, 0) == Estimate(15.0, 950, 2, 100)
    assert one.with_another(20.0, 999, 50) == Estimate(15.0, 999, 2, 95)
    assert one.with_another(10.0, 2000, 200) == Estimate(10.0, 2000, 2, 200)
    many = Estimate(10.0, 0, 9)
    for _ in range(2):
        many = many.with_another(10.0, 0, 0)
    assert many == Estimate(10.0, 0, 10)


def test_more_is_asked_for_than_was_seen() -> None:
    found = Estimates()
    found.note(OWN, 4.0, 4 * GIB, 2 * GIB)
    assert found.knows(OWN) and found.seconds(OWN) == 4.0
    assert found.memory_bytes(OWN) == 5 * GIB and found.gpu_bytes(OWN) == 3 * GIB
    assert found.of("none", None, NAME) == 4.0
    unknown = Estimates({NAME: Estimate(1.0, 0)})
    assert unknown.memory_bytes(OWN) == 2 * GIB and unknown.gpu_bytes(OWN) == 0


def test_a_step_that_ran_out_of_memory_asks_for_twice_as_much() -> None:
    found = Estimates({NAME: Estimate(1.0, 4 * GIB, gpu_bytes=GIB)})
    lost = Outcome("a", StepStatus.TRANSIENT, kind=FailureKind.OOM)
    found.learn(OWN, lost)
    assert found.memory_bytes(OWN) == 10 * GIB and found.gpu_bytes(OWN) == 1.5 * GIB
    found.learn(OWN, lost)
    assert found.memory_bytes(OWN) == 20 * GIB
    gpu = replace(OWN, needs=replace(OWN.needs, accelerator="H200"))
    found.learn(gpu, lost)
    assert found.memory_bytes(gpu) == 20 * GIB and found.gpu_bytes(gpu) == 0


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome("a", StepStatus.DONE), Outcome("a", StepStatus.FAILED, seconds=3.0),
        Outcome("a", StepStatus.TRANSIENT, kind=FailureKind.IO, seconds=3.0),
        Outcome("a", StepStatus.FAILED, kind=FailureKind.OOM, seconds=3.0),
    ],
)  # fmt: skip
def test_what_was_not_done_now_says_nothing(outcome: Outcome) -> None:
    found = Estimates()
    found.learn(OWN, outcome)
    assert found.known == {} and found.memory_bytes(OWN) == 2 * GIB


def test_what_was_done_is_noted() -> None:
    found = Estimates()
    done = Outcome("a", StepStatus.DONE, seconds=3.0, memory_bytes=5, gpu_bytes=7)
    found.learn(OWN, done)
    assert found.known == {NAME: Estimate(3.0, 5, gpu_bytes=7)}


def test_what_follows_is_computed_anew_after_the_first_and_twice_as_many() -> None:
    found, revisions = Estimates(), []
    for _ in range(8):
        found.note(OWN, 1.0, 0)
        revisions.append(found.revision)
    assert revisions == [1, 2, 2, 3, 3, 3, 3, 4]
    found.note(replace(OWN, stage="build"), 1.0, 0)
    assert found.revision == 5


def test_only_what_was_seen_here_replaces_what_others_have_found(tmp_path: Path) -> None:
    found = Estimates({"build": Estimate(1.0, 0), NAME: Estimate(1.0, 0)})
    found.note(OWN, 3.0, 0)
    others = {"build": Estimate(9.0, 0), "check": Estimate(2.0, 0)}
    written = found.over(others)
    assert written == {**others, NAME: Estimate(2.0, 0, 2)}
    write_estimates(tmp_path / "new" / "steps.json", written)
    write_estimates(tmp_path / "new" / "steps.json", written)
    assert read_estimates(tmp_path / "new" / "steps.json") == written


@pytest.mark.parametrize(
    ("one", "kept"),
    [
        (Estimate(0.0, 0), True), (Estimate(-1.0, 0), False), (Estimate(1e9, 0), False),
        (Estimate(1.0, -1), False), (Estimate(1.0, 1 << 50), False), (Estimate(1.0, 0, 0), False),
        (Estimate(1.0, 0, 10), True), (Estimate(1.0, 0, 11), False),
        (Estimate(1.0, 0, gpu_bytes=-1), False), (Estimate(1.0, 0, gpu_bytes=1 << 50), False),
    ],
)  # fmt: skip
def test_what_cannot_be_true_is_not_read(one: Estimate, kept: bool, tmp_path: Path) -> None:
    write_estimates(tmp_path / "steps.json", {"a": one})
    assert read_estimates(tmp_path / "steps.json") == ({"a": one} if kept else {})
