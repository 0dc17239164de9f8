"""Steps on a Ray cluster of three real nodes (all on this machine): who runs what, and when."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import wait_for
from own_stage import step, waited

from farm.engine.estimates import Estimates
from farm.engine.scheduler import Outcome, Unwatched, run_steps
from farm.engine.workers.limits import Limits
from farm.errors import InputError
from farm.plan import Needs, Step
from farm.store import Store

ray = pytest.importorskip("ray")

pytestmark = pytest.mark.slow  # a Ray cluster of its own

ON_L4, ALONE = Needs(accelerator="L4"), Needs(exclusive=True)
MEMORY = {"object_store_memory": 100 << 20}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without CPUs, a node with three, and one with two and an L4, as far as Ray knows."""
    from ray.cluster_utils import Cluster

    assert not ray.is_initialized()
    folder = tempfile.mkdtemp(prefix="ray")  # a short name: sockets are made in it
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # for the workers: `own_stage`
        patch.setenv("RAY_TMPDIR", folder)  # whoever looks for a Ray does not find this one
        patch.delenv("RAY_ADDRESS", raising=False)
        head = {"num_cpus": 0, "include_dashboard": False, **MEMORY}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        cluster.add_node(num_cpus=3, **MEMORY)
        gpu = {"num_gpus": 1, "resources": {"accelerator_type:L4": 1}}
        cluster.add_node(num_cpus=2, **gpu, **MEMORY)
        cluster.wait_for_nodes()
        yield cluster
        cluster.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def address(cluster: Any) -> str:
    return str(cluster.address)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster") / "store"


@pytest.fixture(scope="module")
def executor(address: str, root: Path) -> Iterator[Any]:
    from farm.engine.cluster.executor import RayExecutor

    found = RayExecutor(Store(root), address, Limits(), 0.0)
    yield found
    found.stop()
    assert not ray.is_initialized()


@pytest.fixture(scope="module")
def nodes(executor: Any) -> dict[float, str]:
    """Ray's names of the nodes that have CPUs, by how many."""
    found = {one["Resources"].get("CPU", 0): one["NodeID"] for one in ray.nodes()}
    assert found.pop(0)
    return found


def own(name: str, needs: Needs | None = None, code: str = "") -> Step:
    """A step that records where it ran."""
    where = (
        "import os, psutil\n"
        "raylet = psutil.Process(int(os.environ['RAY_RAYLET_PID'])).cmdline()\n"
        "(figures['node'],) = (one[10:] for one in raylet if one.startswith('--node_id='))\n"
    )
    return step(f"{where}{code}  # {name}", needs)


def nodes_of(executor: Any, root: Path, *steps: Step) -> list[str]:
    """Waits for the steps, and says where each ran."""
    outcomes: dict[str, Outcome] = {}
    for _ in steps:
        outcome = waited(executor)
        outcomes[outcome.key] = outcome
    assert {outcomes[one.key].status for one in steps} == {"done"}, outcomes
    records = [Store(root).record(one.ref) for one in steps]
    return [one.figures["node"] for one in records if one]


def test_a_step_is_admitted_where_one_node_can_run_it(executor: Any, address: str) -> None:
    fits, gpu = own("a", Needs(cpus=3)), own("b", ON_L4)
    rare = own("c", Needs(accelerator="H100", optional=True))
    assert executor.admit([fits, gpu], Estimates()) == {}
    left = executor.admit([fits, rare], Estimates())
    assert list(left) == [rare.key]
    assert left[rare.key].startswith("no node has the H100 that this needs: node ")
    assert "has L4" in left[rare.key] and "has no accelerator" in left[rare.key]
    with pytest.raises(InputError, match=r"own mine \(it needs H100\)") as error:
        executor.admit([fits, own("d", Needs(accelerator="H100"))], Estimates())
    assert error.value.where == f"Ray cluster {address}"
    with pytest.raises(InputError, match=r"\(it needs a CPU\): (?=.*has 0 CPUs)(?=.*has 3 CPUs)"):
        executor.admit([own("e", Needs(cpus=4))], Estimates())


def test_a_step_goes_to_the_largest_node_that_fits(
    executor: Any, root: Path, nodes: dict[float, str]
) -> None:
    steps = [own("three", Needs(cpus=3)), own("two", Needs(cpus=2))]
    executor.admit(steps, Estimates())
    for one in steps:
        assert executor.take(one)
        assert nodes_of(executor, root, one) == [nodes[3]]


def test_exclusive_steps_have_a_node_each_and_others_wait(
    executor: Any, root: Path, nodes: dict[float, str]
) -> None:
    steps = [own(f"alone {n}", ALONE, "import time; time.sleep(3)") for n in range(3)]
    plain = own("beside")
    executor.admit([*steps, plain], Estimates())
    assert [executor.take(one) for one in steps] == [True, True, False]
    assert not executor.take(plain)
    assert set(nodes_of(executor, root, *steps[:2])) == set(nodes.values())
    assert executor.take(plain)
    assert executor.take(steps[2])  # on the other node, where nothing runs
    assert nodes_of(executor, root, plain, steps[2]) == [nodes[3], nodes[2]]


def test_an_exclusive_step_waits_only_for_what_could_run_where_it_will(
    executor: Any, root: Path, nodes: dict[float, str]
) -> None:
    alone = own("large", Needs(cpus=3, exclusive=True))
    shared = own("shared", None, "import time; time.sleep(1)")
    gpu = own("on the gpu", ON_L4)
    executor.admit([alone, shared, gpu], Estimates())
    assert executor.take(shared)
    assert not executor.take(alone)
    nodes_of(executor, root, shared)
    assert executor.take(gpu)
    assert executor.take(alone)
    outcomes = {one.key: one for one in (waited(executor), waited(executor))}
    assert outcomes[alone.key].status == "done", outcomes[alone.key].reason
    record = Store(root).record(alone.ref)
    assert record is not None and record.figures["node"] == nodes[3]
    # The GPU is Ray's word alone: the step finds no CUDA there, and may be tried elsewhere.
    assert outcomes[gpu.key].status == "transient"


def test_no_more_steps_are_taken_for_a_gpu_than_there_are(executor: Any) -> None:
    first, second = own("gpu 1", ON_L4), own("gpu 2", ON_L4)
    executor.admit([first, second], Estimates())
    assert executor.take(first)
    assert not executor.take(second)
    assert waited(executor).key == first.key
    assert executor.take(second)
    assert waited(executor).key == second.key


def test_so_many_steps_are_taken_as_there_are_cores(executor: Any, root: Path) -> None:
    steps = [own(f"many {n}", None, "import time; time.sleep(0.2)") for n in range(8)]
    executor.admit(steps, Estimates())
    assert [executor.take(one) for one in steps] == [True] * 5 + [False] * 3
    nodes_of(executor, root, *steps[:5])
    alone = own("many alone", Needs(cpus=3, exclusive=True), "import time; time.sleep(3)")
    more = [own(f"more {n}", None, "import time; time.sleep(0.2)") for n in range(5)]
    executor.admit([alone, *more], Estimates())
    assert executor.take(alone)
    assert [executor.take(one) for one in more] == [True] * 2 + [False] * 3
    nodes_of(executor, root, alone, *more[:2])


def test_a_step_that_ends_its_process_is_begun_once_alone(executor: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = f"import os; open({str(log)!r}, 'a').write('x'); os.kill(os.getpid(), 9)"
    killed = own("killed", None, code)
    executor.admit([killed], Estimates())
    assert executor.take(killed)
    outcome = waited(executor)
    assert (outcome.key, outcome.status) == (killed.key, "transient")
    assert log.read_text() == "x"


def test_an_executor_on_anothers_ray_ends_its_own_steps_alone(
    executor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from farm.engine.cluster.executor import RayExecutor

    monkeypatch.setenv("RAY_ADDRESS", "somewhere:1")
    second = RayExecutor(Store(tmp_path / "store"), None, Limits(), 0.0)
    with pytest.raises(InputError) as error:
        second.admit([own("x", Needs(cpus=99))], Estimates())
    assert error.value.where == "Ray cluster somewhere:1"
    mark = tmp_path / "pid"
    code = f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    endless = own("endless", None, code)
    second.admit([endless], Estimates())
    assert second.take(endless)
    wait_for(lambda: mark.exists() and mark.read_text() != "")
    second.stop()
    assert ray.is_initialized()
    wait_for(lambda: not psutil.pid_exists(int(mark.read_text())))


def patient(address: str, folder: Path, seconds: float) -> Any:
    """An executor that waits so long for nodes."""
    from farm.engine.cluster.executor import RayExecutor

    return RayExecutor(Store(folder / "store"), address, Limits(), seconds)


def test_steps_wait_for_a_node_of_their_kind_and_for_none_that_does_not_fit(
    cluster: Any,
    address: str,
    executor: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # The node that joins has both kinds of GPU, as far as Ray knows, and a package too many.
    without = (("farmtool", "absent"),)
    fit = [own(f"on an A10G {n}", Needs(accelerator="A10G")) for n in range(3)]
    unfit = step("  # on a T4", Needs(accelerator="T4"), without)
    beside, plain = own("beside"), step("  # without farmtool", None, without)
    waits, hasty = patient(address, tmp_path, 120), patient(address, tmp_path, 0)
    assert waits.admit([*fit, unfit, beside], Estimates()) == {}
    taken = [waits.take(one) for one in (*fit, unfit, beside)]
    assert taken == [True, False, False, True, True]
    assert waited(waits).key == beside.key
    with joined(cluster, tmp_path):
        ended = {outcome.key: outcome for outcome in (waited(waits), waited(waits))}
        assert ended[fit[0].key].status == "waiting"
        assert [waits.take(one) for one in fit] == [True, True, False]  # the third asks for more
        hasty.admit([plain], Estimates())
    lost = ended[unfit.key]
    assert (lost.status, lost.kind) == ("transient", "node_lost")
    assert lost.reason.startswith("no node with T4 came that can run it")
    assert "has farmtool 1.0" in lost.reason
    assert {waited(waits).key, waited(waits).key} == {fit[0].key, fit[1].key}
    # Its other tries are not waited for, nor are others of its kind.
    wait_for(lambda: waits.take(unfit))  # the nodes say anew what they are when one has gone
    assert waited(waits).reason == lost.reason
    waits.stop()
    hasty.stop()
    # Of the other nodes nothing is said: they fit, and the head has no CPUs on purpose.
    (said,) = (line for line in capsys.readouterr().err.splitlines() if "left out" in line)
    assert "has farmtool 1.0" in said and "the plan was made with absent" in said


@contextmanager
def joined(cluster: Any, folder: Path) -> Iterator[None]:
    """A node that joins the cluster, and leaves it."""
    info = folder / "odd" / "farmtool-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: farmtool\nVersion: 1.0\n")
    path = os.pathsep.join([str(info.parent), *sys.path])
    kinds = {"accelerator_type:A10G": 1, "accelerator_type:T4": 1}
    options = {"num_cpus": 2, "num_gpus": 2, "env_vars": {"PYTHONPATH": path}}
    node = cluster.add_node(resources=kinds, **options, **MEMORY)
    yield
    cluster.remove_node(node)


def test_a_node_is_waited_for_as_long_as_was_said(
    address: str, executor: Any, tmp_path: Path
) -> None:
    waits = patient(address, tmp_path, 0.5)
    rare = own("on an H100", Needs(accelerator="H100"))
    assert waits.admit([rare], Estimates()) == {} and waits.take(rare)
    outcome = waited(waits)
    assert outcome.status == "transient" and "(waited up to 0.5s): node " in outcome.reason
    with pytest.raises(InputError, match="onnx"):  # another node would not help
        waits.admit([step("", None, (("onnx", "0.1"),))], Estimates())
    waits.stop()


def test_a_node_that_joins_has_work_and_one_that_dies_costs_a_pause(
    executor: Any, root: Path, nodes: dict[float, str], cluster: Any, tmp_path: Path
) -> None:
    large = own("on five cores", Needs(cpus=5))
    assert not executor.take(large)
    pair = [cluster.add_node(num_cpus=5, **MEMORY) for _ in range(2)]
    wait_for(lambda: executor.take(large))
    nodes_of(executor, root, large)
    code = f"import time\nopen({str(tmp_path / 'ran')!r}, 'a').write('x'); time.sleep(3)"
    slow = own("on a node that dies", Needs(cpus=5), code)

    def kill() -> None:
        wait_for((tmp_path / "ran").exists)
        (task,) = executor._tasks.values()
        (dies,) = [node for node in pair if node.node_id == task.node.id]
        cluster.remove_node(dies, allow_graceful=False)

    thread = threading.Thread(target=kill)
    thread.start()
    outcomes = run_steps({slow.key: slow}, Store(root), lambda: executor, Unwatched())
    thread.join()
    assert outcomes[slow.key].status == "done", outcomes[slow.key].reason
    assert (tmp_path / "ran").read_text() == "xx"
