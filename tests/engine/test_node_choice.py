"""Which node a step goes to, in figures: where one with GPUs helps, where memory is enough."""

from __future__ import annotations

import pytest
from engine.simulated import Work, node

from farm.engine.cluster.placing import Places, Task
from farm.engine.estimates import Estimate, Estimates

HEAD, C1, C2 = node("head", cpus=0), node("c1"), node("c2")
A, B = node("a", cpus=6, gpu="A", gpus=2), node("b", gpu="A")
NODES = (HEAD, C1, C2, A, B)


@pytest.mark.parametrize(("shared_s", "helps"), [(20.0, False), (20.8, True)])
def test_a_node_with_gpus_helps_where_the_others_would_end_later(
    shared_s: float, helps: bool
) -> None:
    """The others' eight cores take 3 s (or 3.1 s) for what may run beside other steps, and 8 s for
    what must be alone. Its own work is of 4 s for three GPUs and 3 s for two nodes alone, and this
    step of 4 s comes after it."""
    work, places = Work(), Places()
    one, shared = work.add("one", 4), work.add("shared", shared_s)
    work.add("alone", 16, exclusive=True)
    work.add("build", 12, accelerator="A")
    work.add("measure", 6, accelerator="A", exclusive=True)
    full = Work()
    for name in ("f1", "f2"):
        full.add(name, 1, cpus=4)
    estimates = work.estimates()
    estimates.add_plan(work.steps)
    places.expect(work.steps.values(), estimates)
    for step, there in zip(full.steps.values(), (C1, C2), strict=True):
        places.add(Task(step, there, 0, 0.0))
    able = [C1, C2, A, B]
    task = places.choose(work.steps[one], able, NODES)
    assert (task is not None) == helps and (task is None or task.node is A)  # it has more cores
    places.forget(work.steps[shared])
    assert places.choose(work.steps[one], able, NODES) is None


def test_what_needs_no_gpu_goes_to_a_node_without_any_as_long_as_there_is_room() -> None:
    work, places = Work(), Places()
    one, on_gpu = work.add("one", 4), work.add("build", 4, accelerator="A")
    places.expect([work.steps[one]], work.estimates())
    for name, able, chosen in ((one, (A, C1), C1), (on_gpu, (B, A), A)):
        task = places.choose(work.steps[name], able, (A, B, C1))
        assert task is not None and task.node is chosen  # A has more cores than either


def test_steps_may_need_all_of_a_nodes_memory() -> None:
    work, places, gib = Work(), Places(), 1 << 30
    steps = [work.steps[work.add(name, 4)] for name in "abc"]
    estimates = Estimates({"export": Estimate(4.0, 4 * gib)})  # of which each asks for 5
    places.expect(steps, estimates)
    nodes = (node("c", memory_bytes=10 * gib),)
    for step in steps[:2]:
        task = places.choose(step, nodes, nodes)
        assert task is not None and task.memory_bytes == 5 * gib
        places.add(task)
    assert places.choose(steps[2], nodes, nodes) is None
