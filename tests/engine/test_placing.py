"""Where steps go and in which order, on simulated clusters: nothing here waits, or is measured."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from engine.simulated import Work, node, run

from farm.engine.cluster.reports import Node
from farm.engine.estimates import Estimate, Estimates, read_estimates, write_estimates


def sweep(seed: int, models: int = 12) -> Work:
    """Models of different sizes, one of which is slow to export, on a CPU and two kinds of GPU."""
    rng, work = random.Random(seed), Work()
    for number in range(models):
        name, size = f"m{number}", rng.uniform(0.5, 3.0)
        prepare = work.add(f"{name}.prepare", size, stage="prepare")
        reference = work.add(f"{name}.reference", 3 * size, prepare, stage="reference")
        slow = 25.0 if number == models // 2 else 2 * size
        export = work.add(f"{name}.export", slow, stage="export")
        for target, gpu, build in (("cpu", None, 1.0), ("a", "A", 4.0), ("b", "B", 5.0)):
            own = f"{name}.{target}"
            on = {"accelerator": gpu} if gpu else {}
            build_key = work.add(f"{own}.build", build * size, export, stage="build", **on)
            verify = work.add(f"{own}.verify", size, build_key, reference, stage="verify", **on)
            work.add(f"{own}.evaluate", 2 * size, verify, stage="evaluate", **on)
            work.add(f"{own}.measure", 2.0, verify, stage="measure", exclusive=True, **on)
    return work


FOUR = (node("c1"), node("c2"), node("a", gpu="A"), node("b", gpu="B"))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("nodes", [FOUR, (node("head", cpus=0), *FOUR), FOUR[1:]])
def test_a_sweep_takes_little_more_than_the_least_time(
    seed: int, nodes: tuple[Node, ...], tmp_path: Path
) -> None:
    work = sweep(seed)
    assert run(work, nodes, tmp_path).now <= 1.05 * work.bound(nodes)


def test_where_processors_have_the_most_to_do_nodes_with_gpus_help(tmp_path: Path) -> None:
    work = Work()
    for number in range(80):
        work.add(f"r{number}", 5, stage="reference")
    for number in range(4):
        work.add(f"b{number}", 1, stage="build", accelerator="A")
    nodes = FOUR[:3]
    cluster = run(work, nodes, tmp_path)
    helped = [key for key, (_, where) in cluster.log.items() if where == "a" and key[0] == "r"]
    assert len(helped) > 10 and cluster.now <= 1.15 * work.bound(nodes)
    assert all(cluster.log[f"b{number}"][0] <= number for number in range(4))  # never waited


def test_nodes_with_gpus_that_have_the_most_to_do_get_nothing_else(tmp_path: Path) -> None:
    work = Work()
    for number in range(20):
        work.add(f"r{number}", 5, stage="reference")
        work.add(f"b{number}", 50, stage="build", accelerator="A")
    cluster = run(work, FOUR[:3], tmp_path)
    assert {where for key, (_, where) in cluster.log.items() if key[0] == "r"} == {"c1", "c2"}


def test_the_longest_way_begins_first(tmp_path: Path) -> None:
    work = Work()
    for number in range(6):
        work.add(f"short{number}", 1)
    work.add("slow", 5)
    first = work.add("first", 1)
    work.add("long", 20, first)
    began = {key: at for key, (at, _) in run(work, [node("c", cpus=1)], tmp_path).log.items()}
    assert sorted(began, key=began.__getitem__)[:3] == ["first", "long", "slow"]


def test_durations_that_become_known_change_the_order(tmp_path: Path) -> None:
    """Nothing is known before: all exports of one model are found to be longer than the others'."""
    work = Work()
    for number in range(4):
        for name, seconds in (("quick", 1.0), ("slow", 30.0)):
            key = work.add(f"{name}{number}", seconds)
            work.steps[key].inputs.model.name = name  # type: ignore[union-attr]
    unknown = Estimates()
    log = run(work, [node("c", cpus=1)], tmp_path, unknown).log
    began = sorted(log, key=lambda key: log[key][0])
    assert began[2:] == ["slow1", "slow2", "slow3", "quick1", "quick2", "quick3"]


def test_a_measurement_begins_on_a_node_where_nothing_runs(tmp_path: Path) -> None:
    """And not only when nothing runs on any node."""
    work = Work()
    work.add("slow", 100)
    build = work.add("build", 3, stage="build")
    for number in range(5):
        work.add(f"m{number}", 2, build, stage="measure", exclusive=True)
    cluster = run(work, [node("c1"), node("c2")], tmp_path)
    (_, slow), *measured = (cluster.log[key] for key in ("slow", *(f"m{n}" for n in range(5))))
    assert [at for at, _ in measured] == [3, 5, 7, 9, 11]
    assert slow not in {where for _, where in measured}


def test_a_node_that_joins_gets_work_at_once(tmp_path: Path) -> None:
    work = Work()
    for number in range(40):
        work.add(f"r{number}", 4, stage="reference")
    cluster = run(work, [node("c1")], tmp_path, joins=[(9.0, node("c2"))])
    assert min(at for at, where in cluster.log.values() if where == "c2") == 9
    assert cluster.now == 25


@pytest.mark.parametrize(("seconds", "at_once"), [(0.1, 4), (2.0, 2)])
def test_only_short_steps_wait_for_a_core(seconds: float, at_once: int, tmp_path: Path) -> None:
    work = Work()
    for number in range(9):
        work.add(f"r{number}", seconds, stage="reference")
    log = run(work, [node("c", cpus=2)], tmp_path).log
    assert sum(at == 0 for at, _ in log.values()) == at_once


def test_steps_are_on_a_node_together_only_if_its_memory_is_enough(tmp_path: Path) -> None:
    work, gib = Work(), 1 << 30
    for number in range(4):
        work.add(f"r{number}", 4, stage="reference")
    work.add("large", 5)
    known = work.estimates().known
    known |= {f"reference/r{n}": Estimate(4, 6 * gib) for n in range(4)}
    known["export/large"] = Estimate(5, 20 * gib)  # more than there is: alone
    nodes = [node("c", memory_bytes=16 * gib)]
    log = run(work, nodes, tmp_path, Estimates(known)).log
    assert sorted(at for at, _ in log.values()) == [0, 5, 5, 9, 9]


def test_a_step_that_ran_out_of_memory_asks_for_more() -> None:
    work, estimates = Work(), Estimates()
    step = work.steps[work.add("a", 1)]
    estimates.add_plan(work.steps)
    before = estimates.memory_bytes(step)
    estimates.note_lack(step)
    assert estimates.memory_bytes(step) > before
    estimates.note(step, 3.0, 1 << 20)
    assert estimates.memory_bytes(step) > before


def test_estimates_are_kept_and_what_is_no_estimate_is_none(tmp_path: Path) -> None:
    file = tmp_path / "estimates.json"
    assert read_estimates(file) == {}
    known = {"build/onnxruntime/a": Estimate(1.5, 1 << 30, 4)}
    write_estimates(file, known)
    assert read_estimates(file) == known
    for text in ("", "[]", '{"a": 1}', '{"a": {"seconds": NaN, "memory_bytes": 1}}'):
        file.write_text(text)
        assert read_estimates(file) == {}
