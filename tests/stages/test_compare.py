"""The stage `compare` on engines of the null runtime: its figures, its files and its groups."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from farm.datasets.prepared import PreparedWriter
from farm.detections import ImageMeta
from farm.errors import StepFailed, TransientFailure
from farm.failures import FailureKind
from farm.specs import (
    CompareInputs,
    Dims,
    Engine,
    EngineOptions,
    Entrant,
    Environment,
    Ref,
    Shape,
    Target,
)
from farm.stages import Context, compare, hosts, turns
from farm.store import Record, Store
from farm.store.figures import require_figures

TARGET = Target("cpu", "a cpu")
SHAPE = Shape("fixed", *[Dims(2, 3, 32, 32)] * 3)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def publish(store: Store, ref: Ref) -> Ref:
    folder = store.work_folder(ref.key)
    if ref.stage == "prepare":
        with PreparedWriter(folder) as writer:
            image = np.zeros((3, 32, 32), np.float32)
            writer.add(image, ImageMeta(1, "1.png", 32, 32, 32, 32, 32, 32, 1.0, 1.0))
    else:
        (folder / "engine").mkdir()
    node = {"host": "h", "device": "a cpu"}
    store.publish(folder, Record(ref.stage, ref.key, "x", {}, {}, {}, 1.0, 1, node))
    return ref


def entrants(store: Store, count: int) -> tuple[Entrant, ...]:
    prepared = publish(store, Ref("prepare", "f" * 64))
    built = [publish(store, Ref("build", f"{i:064x}")) for i in range(count)]
    engines = [Engine(EngineOptions("null", "fp32", SHAPE), one, None) for one in built]
    return tuple(
        Entrant(f"m{i}", engine, prepared, "m0" if i == 1 else None, f"cell {i}")
        for i, engine in enumerate(engines)
    )


def run(store: Store, count: int, seconds: float = 0.3) -> tuple[dict[str, Any], Path]:
    inputs = CompareInputs(entrants(store, count), TARGET, 1, seconds, 0.5, 0.05)
    folder = store.work_folder("c" * 64)
    return dict(compare.run(inputs, Context(store, folder, 1))), folder


def test_every_engine_has_its_rank_interval_and_latency(store: Store) -> None:
    figures, folder = run(store, 3)
    require_figures("compare", figures)
    assert list(figures["entrants"]) == ["m0", "m1", "m2"] and figures["groups"] == 1
    times = np.load(folder / "blocks.npy")
    assert times.shape == (figures["blocks"], 3)
    for index, own in enumerate(figures["entrants"].values()):
        assert own["cell"] == f"cell {index}" and own["rank"] in (1, 2, 3)
        assert own["rounds"] == np.isfinite(times[:, index]).sum()
        assert own["samples"] == turns.MOST_RUNS * own["rounds"]
        assert 0 < own["latency_min_ms"] <= own["latency_p50_ms"] <= own["latency_p90_ms"]
    low, value, high = (figures["entrants"]["m1"][f"speedup_vs_fp32{end}"] for end in
                        ("_low", "", "_high"))  # fmt: skip
    assert low <= value <= high
    assert not any("speedup_vs_fp32" in figures["entrants"][one] for one in ("m0", "m2"))
    assert figures["busy_cores"] is not None and figures["threads"] == 1


def test_engines_for_which_there_is_no_memory_run_in_groups_with_the_first(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = iter([100, 40, 20, 100, 40, 20, 100, 40])  # before and after each opening

    def memory() -> SimpleNamespace:
        return SimpleNamespace(total=200, available=next(free, 100))

    monkeypatch.setattr(psutil, "virtual_memory", memory)
    figures, folder = run(store, 4)
    assert figures["groups"] == 3
    ran = np.isfinite(np.load(folder / "blocks.npy"))
    assert ran[:, 0].any() and not (ran[:, 1] & ran[:, 2]).any()
    assert {one["rank"] for one in figures["entrants"].values()} <= {1, 2, 3, 4}
    assert all("vs_best" in one for one in figures["entrants"].values())


def test_memory_that_runs_out_when_an_engine_is_opened_ends_the_group(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, own = [0], turns.opened

    def limited(*values: Any) -> Any:
        opened[0] += 1
        if opened[0] == 3:
            raise TransientFailure("CUDA out of memory", FailureKind.OOM)
        return own(*values)

    monkeypatch.setattr(turns, "opened", limited)
    assert run(store, 3)[0]["groups"] == 2
    opened[0] = 1
    with pytest.raises(TransientFailure):  # there is no room for two at once
        compare.run(
            CompareInputs(entrants(store, 2), TARGET, 1, 0.1, 0.02, 0.05),
            Context(store, store.work_folder("d" * 64), 1),
        )


def test_a_slow_engine_runs_once_in_each_block_and_a_fast_one_often() -> None:
    class Session:
        def __init__(self, clock: list[int], taken: int) -> None:
            self.clock, self.taken, self.runs = clock, taken, 0

        def run(self, images: Any) -> dict[str, Any]:
            self.clock[0] += self.taken
            self.runs += 1
            return {}

        def close(self) -> None: ...

    cases = ((200, 1, False), (100, 1, False), (50, 3, True), (2, 3, True), (1, 6, True))
    for milliseconds, runs, untimed in (*cases, (0.01, 50, True)):
        clock = [0]
        session = Session(clock, int(milliseconds * 1e6))
        timed = turns.Timed(session, np.zeros(1, np.float32))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("time.perf_counter_ns", lambda clock=clock: clock[0])
            timed.warm_up()
            before = session.runs
            assert timed() == pytest.approx(milliseconds)
        assert timed.runs == len(timed.samples) == runs
        assert session.runs - before == runs + untimed, "the first one is not timed"


@pytest.mark.parametrize(
    ("milliseconds", "runs", "untimed"),
    [(5, 3, True), (7, 3, True), (8, 2, True), (15, 1, True), (20, 1, False), (90, 1, False)],
)
def test_a_slow_engine_takes_no_more_of_the_time_than_the_fastest(
    milliseconds: float, runs: int, untimed: bool
) -> None:
    timed = turns.Timed(session=None, images=np.zeros(1, np.float32), seconds=milliseconds / 1e3)  # type: ignore[arg-type]
    timed.fit(0.005)
    assert (timed.runs, timed.untimed) == (runs, untimed)


HERE = Environment("null@here", interpreter=sys.executable)


def test_an_engine_of_another_environment_takes_turns_in_a_process_of_that(store: Store) -> None:
    first, *others = entrants(store, 3)
    inputs = CompareInputs(
        (first, *(replace(one, environment=HERE) for one in others)), TARGET, 1, 0.3, 0.5, 0.05
    )
    folder = store.work_folder("c" * 64)
    context = Context(store, folder, 1)
    before = psutil.Process().children()
    figures = compare.run(inputs, context)
    require_figures("compare", figures)
    times = np.load(folder / "blocks.npy")
    assert np.isfinite(times[:2]).all()
    for index, one in enumerate(figures["entrants"].values()):
        assert one["samples"] == turns.MOST_RUNS * np.isfinite(times[:, index]).sum()
    assert len(context.parents) == 4  # of the other process's engines, too
    assert psutil.Process().children() == before


def test_what_another_process_raises_is_the_steps_own_reason(store: Store) -> None:
    first, second = entrants(store, 2)
    engine = replace(second.engine, built=Ref("build", "a" * 64))
    with (
        hosts.Hosts(Context(store, store.work_folder("c" * 64), 1), 1) as opened,
        pytest.raises(TransientFailure, match="build aaaaaaaaaaaa"),
        opened.open(replace(second, engine=engine, environment=HERE)),
    ):
        pass
    options = EngineOptions("none of these", "fp32", SHAPE)
    unknown = replace(first, engine=replace(first.engine, options=options), environment=HERE)
    with (
        hosts.Hosts(Context(store, store.work_folder("d" * 64), 1), 1) as opened,
        pytest.raises(StepFailed, match="none of these"),
        opened.open(unknown),
    ):
        pass


@pytest.mark.parametrize(
    ("how", "error", "text"),
    [
        ("kill", TransientFailure, "the process of null@here was killed by signal 9"),
        ("terminate", StepFailed, "the process of null@here ended with exit code -15"),
    ],
)
def test_an_environments_process_that_ends_is_named(
    how: str, error: type[Exception], text: str
) -> None:
    before = psutil.Process().children()
    host = hosts.Host(HERE, 1)
    (process,) = {*psutil.Process().children()} - {*before}
    getattr(process, how)()
    with pytest.raises(error, match=text):
        host.ask("turn", "m0")
    assert psutil.Process().children() == before
