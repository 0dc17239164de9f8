"""What steps ask Ray for on a GPU that is Ray's word alone: parts of it, or all of it."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from own_stage import step, waited

from farm.engine.estimates import Estimate, Estimates
from farm.engine.status import Outcome, StepStatus
from farm.engine.workers.limits import Limit, Limits
from farm.plan import Needs, Step
from farm.store import Store

ray = pytest.importorskip("ray")

pytestmark = pytest.mark.slow  # a Ray cluster of its own

GIB, TOGETHER = 1 << 30, 3
SMI = "#!/bin/sh\necho 'NVIDIA L4, 8.9, 580.95.05, 24576 MiB, [N/A]'\n"
SHARES, ALONE = Needs(accelerator="L4", shares_gpu=True), Needs(accelerator="L4", exclusive=True)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A node with four CPUs and an L4 of 24 GiB, as its nvidia-smi says."""
    from ray.cluster_utils import Cluster

    folder, programs = tempfile.mkdtemp(prefix="ray"), tmp_path_factory.mktemp("programs")
    (programs / "nvidia-smi").write_text(SMI)
    (programs / "nvidia-smi").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        patch.setenv("RAY_TMPDIR", folder)
        patch.delenv("RAY_ADDRESS", raising=False)
        cluster = Cluster()
        cluster.add_node(
            num_cpus=4, num_gpus=1, resources={"accelerator_type:L4": 1}, include_dashboard=False,
            object_store_memory=100 << 20,
            env_vars={"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
        )  # fmt: skip
        cluster.wait_for_nodes()
        yield str(cluster.address)
        cluster.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def given(one: Step, root: str, limit: Limit, known: object) -> Outcome:
    """In place of a step, which needs CUDA: say what Ray has given its task, and how many of its
    stage run at the same time, for which it waits."""
    folder = Path(root, "running", one.stage)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / one.key).touch()
    until = time.monotonic() + (60 if limit.gpu_share < 1 else 0)
    while len(there := [*folder.iterdir()]) < TOGETHER and time.monotonic() < until:
        time.sleep(0.05)
    found = {
        "gpus": ray.get_runtime_context().get_assigned_resources()["GPU"],
        "share": limit.gpu_share,
        "visible": os.environ["CUDA_VISIBLE_DEVICES"],
        "together": len(there),
    }
    return Outcome(one.key, StepStatus.DONE, json.dumps(found))


def of_model(stage: str, name: str, needs: Needs) -> Step:
    return replace(step(name, needs), stage=stage)


def test_steps_with_a_known_peak_share_a_gpu_and_a_measurement_has_it_alone(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from farm.engine.cluster import tasks
    from farm.engine.cluster.executor import RayExecutor

    monkeypatch.setattr(tasks, "_supervise", ray.remote(given))
    verify = [of_model("verify", f"v{number}", SHARES) for number in range(4)]
    unknown, measure = of_model("evaluate", "e", SHARES), of_model("measure", "m", ALONE)
    estimates = Estimates({"verify": Estimate(2.0, 0, gpu_bytes=5 * GIB)})  # 0.32 of the GPU
    executor = RayExecutor(Store(tmp_path / "store"), address, Limits(), 0.0)
    try:
        executor.admit([*verify, unknown, measure], estimates)
        assert [executor.take(one) for one in verify] == [True, True, True, False]
        assert not executor.take(unknown) and not executor.take(measure)
        shared = [json.loads(waited(executor).reason) for _ in range(3)]
        assert [one["gpus"] for one in shared] == [one["share"] for one in shared] == [0.32] * 3
        assert {one["visible"] for one in shared} == {"0"}
        assert [one["together"] for one in shared] == [TOGETHER] * 3
        for one in (unknown, measure):
            assert executor.take(one)
            assert not executor.take(verify[3])
            found: dict[str, Any] = json.loads(waited(executor).reason)
            assert found["gpus"] == found["share"] == 1.0
    finally:
        executor.stop()
