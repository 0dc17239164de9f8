"""Where steps go and in which order, on simulated clusters: nothing here waits, or is measured."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from engine.simulated import Work, node, run

from farm.cli.results import Results
from farm.engine.cluster.placing import Places
from farm.engine.cluster.reports import Node
from farm.engine.estimates import Estimate, Estimates, read_estimates, write_estimates
from farm.specs import Gpu


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
    assert len(helped) > 10 and cluster.now <= 1.1 * work.bound(nodes)
    assert [cluster.log[f"b{number}"][0] for number in range(4)] == [0, 1, 2, 3]  # never waited


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


@pytest.mark.parametrize(("cpus", "gpus"), [(2, 1), (4, 1), (8, 4), (8, 8)])
def test_a_machine_with_gpus_uses_all_of_its_cores(cpus: int, gpus: int, tmp_path: Path) -> None:
    work = Work()
    for number in range(10 * cpus):
        export = work.add(f"e{number}", 4, stage="export")
        if number % (cpus // gpus) == 0:
            work.add(f"b{number}", 2, export, stage="build", accelerator="A")
    nodes = [node("a", cpus=cpus, gpu="A", gpus=gpus)]
    assert run(work, nodes, tmp_path).now <= 1.1 * work.bound(nodes)


def test_short_steps_leave_no_gpu_waiting(tmp_path: Path) -> None:
    work = Work()
    for number in range(200):
        work.add(f"r{number}", 0.4, stage="reference")
    for number in range(3):
        work.add(f"b{number}", 2, stage="build", accelerator="A")
    log = run(work, [node("a", cpus=2, gpu="A")], tmp_path).log
    assert [log[f"b{number}"][0] for number in range(3)] == pytest.approx([0, 2, 4], abs=0.01)


def test_nothing_known_costs_little_in_a_large_sweep(tmp_path: Path) -> None:
    work = sweep(1, models=40)
    for step in work.steps.values():
        step.inputs.model.name = "one"  # type: ignore[union-attr]
    assert run(work, FOUR, tmp_path, Estimates()).now <= 1.1 * work.bound(FOUR)


def test_a_node_without_work_for_its_gpus_takes_what_fits_nowhere_else(tmp_path: Path) -> None:
    work, gib = Work(), 1 << 30
    for number in range(3):
        work.add(f"e{number}", 60)
    known = {f"export/e{number}": Estimate(60, 5 * gib) for number in range(3)}
    nodes = [node("c", memory_bytes=8 * gib), node("a", gpu="A", memory_bytes=64 * gib)]
    assert run(work, nodes, tmp_path, Estimates(known)).now == 60


GIB = 1 << 30
L4 = Gpu("NVIDIA L4", "8.9", "580.1", 24 * GIB)


def on_gpu(work: Work, stage: str, count: int, **needs: bool) -> list[str]:
    names = [f"{stage}{number}" for number in range(count)]
    return [work.add(one, 2, stage=stage, accelerator="L4", **needs) for one in names]


def test_steps_share_a_gpu_whose_memory_is_enough_and_a_measurement_has_it_alone(
    tmp_path: Path,
) -> None:
    work = Work()
    verify = on_gpu(work, "verify", 4, shares_gpu=True)
    measure = on_gpu(work, "measure", 2, exclusive=True)
    known = work.estimates().known
    known |= {f"verify/{one}": Estimate(2, 0, gpu_bytes=4 * GIB) for one in verify}  # 6 of 24
    nodes = [node("a", cpus=8, gpu="L4", gpu_kinds=(L4,))]
    log = run(work, nodes, tmp_path, Estimates(known)).log
    assert [log[one][0] for one in verify] == [0, 0, 0, 0]
    assert sorted(log[one][0] for one in measure) == [2, 4]


@pytest.mark.parametrize(
    ("gpu_bytes", "gpu", "part"),
    [
        (4 * GIB, L4, 0.25),
        (0, L4, 1.0),  # its peak is not known
        (4 * GIB, replace(L4, memory_bytes=0), 1.0),
        (20 * GIB, L4, 1.0),
        (GIB // 8, L4, 0.1),
        (5 * GIB, L4, 0.32),  # never less than it needs
    ],
)
def test_the_part_of_a_gpu_is_by_the_recorded_peak(gpu_bytes: int, gpu: Gpu, part: float) -> None:
    work, places = Work(), Places()
    (name,) = on_gpu(work, "verify", 1, shares_gpu=True)
    (alone,) = on_gpu(work, "build", 1)
    known = {
        f"{work.steps[one].stage}/{one}": Estimate(2, 0, gpu_bytes=gpu_bytes)
        for one in (name, alone)
    }
    estimates = Estimates(known)
    estimates.add_plan(work.steps)
    places.expect(work.steps.values(), estimates)
    there = (node("a", gpu="L4", gpu_kinds=(gpu,)),)
    for one, gpus in ((name, part), (alone, 1.0)):
        task = places.choose(work.steps[one], there, there)
        assert task is not None and task.gpus == gpus


@pytest.mark.parametrize(
    ("peaks", "begins"),
    [
        ((9.6, 9.6, 9.6), [0, 0, 2]),  # 0.6 each: no GPU has so much left of two that have 0.4
        ((9.6, 4.8, 4.8, 4.8), [0, 0, 0, 0]),  # 0.6 and 0.3 on the first, twice 0.3 on the second
        ((4.8, 4.8, 16), [0, 0, 0]),  # what shares leaves the other to what needs all of one
        ((4.8, 12.8, 3.2, 11.2), [0, 0, 0, 0]),  # 0.2 beside 0.8, though 0.3 was there before
        ((9.6, 9.6, 6.4, 6.4, 6.4), [0, 0, 0, 0, 2]),  # as much as is left on each, and no more
    ],
)
def test_a_part_of_a_gpu_is_what_one_of_them_has_left(
    peaks: tuple[float, ...], begins: list[int], tmp_path: Path
) -> None:
    work = Work()
    names = on_gpu(work, "verify", len(peaks), shares_gpu=True)
    known = work.estimates().known | {
        f"verify/{one}": Estimate(2, 0, gpu_bytes=int(peak * GIB))
        for one, peak in zip(names, peaks, strict=True)
    }
    nodes = [node("a", cpus=8, gpu="L4", gpus=2, gpu_kinds=(L4,))]
    log = run(work, nodes, tmp_path, Estimates(known)).log
    assert sorted(at for at, _ in log.values()) == begins


def test_a_peak_of_gpu_memory_is_of_the_same_model_and_kept_where_none_was_found() -> None:
    work, estimates = Work(), Estimates()
    first, second = (work.steps[one] for one in on_gpu(work, "verify", 2, shares_gpu=True))
    estimates.add_plan(work.steps)
    estimates.note(first, 1.0, 1, 4 * GIB)
    estimates.note(first, 1.0, 1)
    assert estimates.gpu_bytes(first) == 6 * GIB and estimates.gpu_bytes(second) == 0
    estimates.note(first, 1.0, 1, GIB)
    assert estimates.gpu_bytes(first) == int(1.5 * int(0.95 * 4 * GIB))
    estimates.note_out_of_memory(first)
    assert estimates.gpu_bytes(first) == 0  # the next has a GPU of its own


def test_nothing_is_asked_for_where_ray_does_not_know_the_memory() -> None:
    work, places = Work(), Places()
    step, there = work.steps[work.add("a", 1)], (node("c"),)
    places.expect([step], work.estimates())
    task = places.choose(step, there, there)
    assert task is not None and task.memory_bytes == 0


def test_a_step_that_ran_out_of_memory_asks_for_more_in_this_run() -> None:
    work, estimates = Work(), Estimates()
    step = work.steps[work.add("a", 1)]
    estimates.add_plan(work.steps)
    before = estimates.memory_bytes(step)
    estimates.note_out_of_memory(step)
    assert estimates.memory_bytes(step) == 2 * before
    estimates.note(step, 3.0, 1 << 20)
    assert estimates.memory_bytes(step) == 2 * before
    assert Estimates(estimates.known).memory_bytes(step) < before


def test_a_peak_that_does_not_come_again_is_forgotten() -> None:
    work, estimates = Work(), Estimates()
    step = work.steps[work.add("a", 1)]
    estimates.note(step, 1.0, 8 << 30)
    for _ in range(100):
        estimates.note(step, 1.0, 1 << 30)
    assert estimates.memory_bytes(step) < 2 << 30


def test_estimates_are_kept_and_what_cannot_be_true_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "estimates" / "steps.json"
    assert read_estimates(file) == {}
    known = {"build/onnxruntime/a": Estimate(1.5, 1 << 30, 4)}
    write_estimates(file, known)
    assert read_estimates(file) == known
    values = ('{"seconds": NaN, "memory_bytes": 1}', '{"seconds": 1, "memory_bytes": -5}', "1",
              '{"seconds": 1, "memory_bytes": 1, "count": -1}',
              '{"seconds": 1e300, "memory_bytes": 1}',
              '{"seconds": 1, "memory_bytes": 1' + 400 * "0" + "}")  # fmt: skip
    for text in ("", "[]", *(f'{{"a": {value}}}' for value in values)):
        file.write_text(text)
        assert read_estimates(file) == {}, text


def test_estimates_of_two_sweeps_are_put_together(tmp_path: Path) -> None:
    work, results = Work(), Results(tmp_path)
    one, two = (work.steps[work.add(name, 1, stage=name)] for name in ("export", "build"))
    first, second = results.estimates(), results.estimates()
    first.note(one, 2.0, 1)
    second.note(two, 3.0, 1)
    results.keep_estimates(first)
    results.keep_estimates(second)
    found = results.estimates()
    assert (found.seconds(one), found.seconds(two)) == (2.0, 3.0)
