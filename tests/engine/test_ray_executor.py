"""Steps on a real Ray of this machine, begun and ended by the executor itself."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import wait_for
from own_stage import step, waited

from farm.engine.estimates import Estimates
from farm.engine.status import StepStatus
from farm.engine.workers.limits import Limits
from farm.errors import InputError
from farm.plan import Needs
from farm.plan.content.packages import exact_version
from farm.plan.machines.placement import cores, cpu_model
from farm.specs import Environment
from farm.store import Store

ray = pytest.importorskip("ray")

pytestmark = pytest.mark.slow  # a Ray of its own, and a new worker for most of the steps


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ray") / "store"


@pytest.fixture(scope="module")
def executor(root: Path) -> Iterator[Any]:
    from farm.engine.cluster.executor import RayExecutor

    assert not ray.is_initialized()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # for the workers: `own_stage`
        found = RayExecutor(Store(root), None, Limits(), 0.0)
        yield found
        found.stop()
    assert not ray.is_initialized()


def test_a_step_of_a_worker_is_in_the_store(executor: Any, root: Path) -> None:
    own = step("import os; figures['pid'] = os.getpid(); context.folder.joinpath('f').touch()")
    executor.admit([own], Estimates())
    assert executor.take(own)
    assert waited(executor).status == "done"
    record = Store(root).record(own.ref)
    assert record is not None and record.files == {"f": 0}
    assert record.figures["pid"] != os.getpid()


def test_its_ray_listens_on_loopback_alone_and_is_private(executor: Any) -> None:
    # After a step: all of Ray's processes are there, and a worker of its own.
    here = psutil.Process()
    ours = [here, *here.children(recursive=True)]
    names = " ".join(" ".join(one.cmdline()) for one in ours)
    assert all(name in names for name in ("gcs_server", "raylet", "ray::", "log_monitor"))
    sockets = [one for each in ours for one in each.net_connections() if one.status == "LISTEN"]
    addresses = {one.laddr.ip.removeprefix("::ffff:") for one in sockets}
    assert addresses == {"127.0.0.1"} and len(sockets) >= 8
    folder = Path(ray._private.worker._global_node.get_temp_dir_path()).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "token").stat().st_mode & 0o777 == 0o600
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ


def test_a_program_without_the_token_is_refused(executor: Any) -> None:
    address = ray.get_runtime_context().gcs_address
    code = f"from ray._raylet import GcsClient; GcsClient({address!r}).internal_kv_keys(b'', None)"
    env = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
    command = [sys.executable, "-c", code]
    tried = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert tried.returncode != 0 and "InvalidAuthToken" in tried.stderr


def test_an_exclusive_step_has_a_process_and_all_cores_for_itself(
    executor: Any, root: Path
) -> None:
    code = "import os; figures['p'] = os.getpid()"
    steps = [step(f"{code}  # {number}", Needs(exclusive=True)) for number in range(2)]
    executor.admit(steps, Estimates())
    for one in steps:
        assert executor.take(one)
        assert waited(executor).status == "done"
    records = [Store(root).record(one.ref) for one in steps]
    assert len({one.figures["p"] for one in records if one}) == 2


def test_the_nodes_say_what_they_have(executor: Any) -> None:
    tools = (("numpy", exact_version("numpy")),)
    assert executor.admit([step("0", toolchain=tools)], Estimates()) == {}
    (node,) = executor._nodes
    machine = node.machine
    assert machine.cpus == cores() and machine.device == cpu_model() and not machine.no_store
    assert machine.versions == dict(tools) and len(executor._nodes.known) == 1


def test_a_step_that_no_node_can_run_is_named_or_left(executor: Any) -> None:
    optional = step("1", Needs(accelerator="H100", optional=True))
    left = executor.admit([optional, step("2")], Estimates())
    assert list(left) == [optional.key]
    assert left[optional.key].startswith("no node has the H100 that this needs: node ")
    with pytest.raises(InputError, match=r"no node can run own mine \(it needs a CPU\): ") as error:
        executor.admit([step("3", Needs(cpus=9999))], Estimates())
    assert error.value.where == "Ray cluster local"


def test_a_worker_that_is_killed_is_transient_and_its_log_kept(executor: Any, root: Path) -> None:
    own = step(
        "import os, signal; print('so far', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    executor.admit([own], Estimates())
    assert executor.take(own)
    outcome = waited(executor)
    assert (outcome.key, outcome.status) == (own.key, "transient")
    assert Store(root).log_path(own.ref).read_text() == "so far\n"
    assert outcome.reason == "its process was killed by signal 9 (Killed)"
    assert outcome.kind == "crash"


def test_a_supervisor_that_is_killed_takes_its_step_along(executor: Any, root: Path) -> None:
    pids = root.parent / "pids"
    own = step(
        "import os, psutil, time; print('so far', flush=True)\n"
        "server = psutil.Process().parent()\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{server.pid}}')\n"
        "server.parent().kill(); time.sleep(600)"
    )
    executor.admit([own], Estimates())
    assert executor.take(own)
    outcome = waited(executor)
    assert (outcome.status, outcome.kind) == ("transient", "node_lost")
    assert outcome.reason == "the process that supervised it was killed"
    assert Store(root).log_path(own.ref).read_text() == "so far\n"
    wait_for(lambda: not any(psutil.pid_exists(int(pid)) for pid in pids.read_text().split()))


def test_a_step_over_its_limit_is_given_up(executor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor._submit, "_limits", Limits({"own": 1.5}))
    own = step("import time; time.sleep(600)")
    executor.admit([own], Estimates())
    started = time.monotonic()
    assert executor.take(own)
    outcome = waited(executor)
    assert outcome.status is StepStatus.FAILED and 1.5 <= time.monotonic() - started < 60
    more = "`limits: {stages: {own: TIME}}`"
    assert outcome.reason.startswith(f"it did not finish within 1.5s; {more}")


def test_an_exclusive_step_waits_for_the_others_and_they_for_it(executor: Any) -> None:
    others = [step("import time; time.sleep(1)"), step("import time; time.sleep(1.1)")]
    alone = step("import time; time.sleep(0.1)", Needs(exclusive=True))
    executor.admit([*others, alone], Estimates())
    assert executor.take(others[0])
    assert not executor.take(alone)
    assert executor.take(others[1])
    waited(executor)
    waited(executor)
    assert executor.take(alone)
    assert not executor.take(others[0])
    outcome = waited(executor)
    assert (outcome.key, outcome.status) == (alone.key, "done")


def test_no_more_steps_are_taken_than_keep_the_cores_busy(executor: Any) -> None:
    steps = [step(f"import time; time.sleep(0.1)  # {number}") for number in range(cores() + 1)]
    executor.admit(steps, Estimates())
    assert [executor.take(one) for one in steps] == [True] * cores() + [False]
    assert {waited(executor).key for _ in range(cores())} == {one.key for one in steps[:-1]}


def test_a_step_in_a_container_is_submitted_with_its_image(
    executor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No container runtime is needed to see what Ray is asked for."""
    asked: dict[str, Any] = {}

    class Call:
        def options(self, **options: Any) -> Call:
            asked.update(options, checked=ray.runtime_env.RuntimeEnv(**options["runtime_env"]))
            return self

        def remote(self, *_: Any) -> object:
            return object()

    monkeypatch.setattr("farm.engine.cluster.tasks._supervise", Call())
    own = step("", Needs(exclusive=True))
    boxed = dataclasses.replace(own, environment=Environment("own@box", image="registry/name:1"))
    executor.admit([boxed], Estimates())
    assert executor.take(boxed)
    assert asked["runtime_env"] == {"image_uri": "registry/name:1"}
    executor._tasks.clear()
