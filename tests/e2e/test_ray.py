"""Steps on a real Ray that counts on GPUs which this machine may not have."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from farm.engine.estimates import Estimates
from farm.engine.status import Outcome
from farm.engine.workers.limits import Limits
from farm.plan import Step
from farm.plan.steps import Needs
from farm.specs import Ref
from farm.store import Store

KIND = "L4"


@dataclass(frozen=True)
class Noted(Step):
    """Leaves the number of the process that performs it, and the GPUs that it sees."""

    notes: str = ""

    @property
    def ref(self) -> Ref:
        note = f"{os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES')}"
        (Path(self.notes) / self.key).write_text(note)
        return super().ref


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    kind = {f"accelerator_type:{KIND}": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # for the workers: `own_stage`
        ray.init(
            address="local", num_cpus=4, num_gpus=2, resources=kind, include_dashboard=False,
            object_store_memory=100 << 20, log_to_driver=False, _node_ip_address="127.0.0.1",
        )  # fmt: skip
        yield
    ray.shutdown()


@pytest.fixture
def executor(cluster: None, tmp_path: Path) -> Iterator[Any]:
    from farm.engine.cluster.executor import RayExecutor

    found = RayExecutor(Store(tmp_path / "store"), None, Limits(), 0.0)
    yield found
    found.stop()


def waited(executor: Any) -> Outcome:
    while (outcome := executor.wait()) is None:
        pass
    return outcome  # type: ignore[no-any-return]


def noted(folder: Path, key: str, accelerator: str | None = KIND) -> Noted:
    # Ends as one whose file is not there, or that finds no GPU: both are well here.
    return Noted(
        "build", key * 64, key, None, (), (), Needs(accelerator=accelerator), "", None, str(folder)
    )  # type: ignore[arg-type]


def test_each_step_on_a_gpu_has_a_process_of_its_own_and_sees_the_gpu_of_its_task(
    executor: Any, tmp_path: Path
) -> None:
    steps = [noted(tmp_path, key) for key in "abc"]
    executor.admit(steps, Estimates())
    for step in steps:
        assert executor.take(step)
        waited(executor)
    notes = [(tmp_path / step.key).read_text().split() for step in steps]
    assert len({pid for pid, _ in notes}) == len(steps)
    assert {gpu for _, gpu in notes} <= {"0", "1"}


def test_no_more_steps_than_gpus_are_under_way(executor: Any, tmp_path: Path) -> None:
    steps = [noted(tmp_path, key) for key in "def"]
    executor.admit(steps, Estimates())
    assert [executor.take(step) for step in steps] == [True, True, False]
    assert executor.take(noted(tmp_path, "0", accelerator=None))  # cores are left
    ended = {waited(executor).key for _ in range(3)}
    assert ended == {steps[0].key, steps[1].key, "0" * 64}
    assert executor.take(steps[2]) and waited(executor).key == steps[2].key
