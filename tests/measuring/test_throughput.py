"""Throughput: which loads are tried, which is the best, what a rate is; clocks are simulated."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import PROJECT

from farm.catalog import RUNTIMES
from farm.errors import StepFailed, TransientFailure
from farm.measuring import throughput
from farm.measuring.throughput import Load, best_throughput, runs_per_second, stream_counts
from farm.runtimes import Concurrent
from farm.runtimes.tensorrt import session as tensorrt
from farm.specs import Dims, EngineOptions, Shape, Suppression
from farm.stages.engines import Suppressing, concurrent, runs_concurrently

IMAGES = np.zeros((1, 3, 8, 8), np.float32)


class Engine:
    """What `best_throughput` tries: known rates, and trials that last as long as they are told."""

    def __init__(self, rates: dict[tuple[int, int], float | Exception]) -> None:
        self.rates, self.now, self.trials = rates, 0.0, list[tuple[int, int, float]]()

    def trial(self, load: Load, seconds: float) -> float:
        self.trials.append((load.batch, load.streams, round(seconds, 9)))
        self.now += seconds
        rate = self.rates[load.batch, load.streams]
        if isinstance(rate, Exception):
            raise rate
        return rate

    def best(self, batches: list[int], streams: list[int], seconds: float) -> Any:
        return best_throughput(self.trial, batches, streams, seconds, clock=lambda: self.now)


def test_streams_are_one_all_cores_and_the_powers_of_2_between() -> None:
    known = {1: [1], 2: [1, 2], 3: [1, 3, 2], 8: [1, 8, 4, 2], 12: [1, 12, 8, 4, 2]}
    assert {most: stream_counts(most) for most in known} == known


def test_the_best_streams_are_found_first_and_then_the_best_batch() -> None:
    engine = Engine({(2, 1): 10, (2, 4): 14, (2, 2): 16, (8, 2): 20, (1, 2): 12})
    found = engine.best([2, 8, 1], [1, 4, 2], seconds=2)
    assert found.load == Load(8, 2) and found.images_per_s == 20
    assert engine.trials == [
        (2, 1, 0.2), (2, 4, 0.2), (2, 2, 0.2), (8, 2, 0.2), (1, 2, 0.2), (8, 2, 1.0),
    ]  # fmt: skip
    assert found.figures() == {
        "throughput_per_s": 20, "throughput_batch": 8, "throughput_streams": 2,
        "throughput_rates": {"2x1": 10, "2x4": 14, "2x2": 16, "8x2": 20, "1x2": 12},
    }  # fmt: skip


def test_the_figure_is_of_a_trial_of_its_own() -> None:
    """Not the luckiest of several, whose noise is likely in its favour."""
    engine = Engine({(1, 1): 10, (1, 2): 30})
    lucky = engine.trial

    def settles(load: Load, seconds: float) -> float:
        rate = lucky(load, seconds)
        return 8 if len(engine.trials) == 3 else rate

    found = best_throughput(settles, [1], [1, 2], 1, clock=lambda: engine.now)
    assert (found.load, found.images_per_s) == (Load(1, 2), 8)


def test_a_load_that_fails_is_left_out() -> None:
    gone: Exception = TransientFailure("no memory")
    engine = Engine({(1, 1): 10, (1, 2): MemoryError(), (4, 1): gone, (2, 1): 11})
    found = engine.best([1, 4, 2], [1, 2], seconds=1)
    assert found.load == Load(2, 1) and set(found.rates) == {Load(1, 1), Load(2, 1)}
    with pytest.raises(TransientFailure, match="no memory"):
        Engine({(1, 1): gone}).best([1], [1, 2], seconds=1)


def test_no_load_is_begun_when_the_time_is_over() -> None:
    engine = Engine({(1, 1): 1, (1, 2): 1.5, (4, 2): 3})
    slow = engine.trial

    def outlasts(load: Load, seconds: float) -> float:
        engine.now += 0.4  # its runs are longer than the trial should be
        return slow(load, seconds)

    found = best_throughput(outlasts, [1, 4], [1, 2], 1.5, clock=lambda: engine.now)
    assert found.load == Load(1, 2) and Load(4, 2) not in found.rates


class Timed:
    """A session whose runs take a known time of its own thread's clock."""

    clocks = threading.local()

    def __init__(self, seconds: float, first: float = 5.0) -> None:
        self.seconds, self.first, self.runs = seconds, first, 0

    @classmethod
    def now(cls) -> float:
        return float(getattr(cls.clocks, "now", 100.0))

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self.runs += 1
        type(self).clocks.now = self.now() + (self.seconds if self.runs > 1 else self.first)
        return {}

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("times", "rate"),
    [
        ([0.1], 10.0),
        ([0.3], 1 / 0.3),  # the fourth run counts by a third
        ([4.0], 0.25),  # longer than the trial
        ([0.1, 0.2, 0.3], 10 + 5 + 1 / 0.3),
    ],
)
def test_a_rate_counts_what_was_done_in_its_time(
    monkeypatch: pytest.MonkeyPatch, times: list[float], rate: float
) -> None:
    monkeypatch.setattr(throughput, "time", SimpleNamespace(perf_counter=Timed.now))
    sessions = [Timed(seconds) for seconds in times]
    assert runs_per_second(sessions, IMAGES, 1.0) == pytest.approx(rate)


def test_sessions_run_at_the_same_time() -> None:
    class Meeting:
        """A session whose runs end when one of each session has begun."""

        barrier = threading.Barrier(3, timeout=60)

        def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
            self.barrier.wait()
            return {}

        def close(self) -> None: ...

    class Ended(Exception):
        pass

    class Last(Meeting):
        runs = 0

        def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
            self.runs += 1
            if self.runs == 5:
                self.barrier.abort()
                raise Ended
            return super().run(images)

    with pytest.raises((Ended, threading.BrokenBarrierError)):
        runs_per_second([last := Last(), Meeting(), Meeting()], IMAGES, 3600)
    assert last.runs == 5


class Splitting:
    """A session that can be opened again; it counts which are open."""

    def __init__(self, opened: list[int], number: int = 0) -> None:
        self.opened, self.number = opened, number
        opened.append(number)

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        boxes, scores = np.float32([[[0, 0, 9, 9], [0, 0, 9, 8]]]), np.float32([[0.9, 0.8]])
        return {"boxes": boxes, "scores": scores, "labels": np.zeros((1, 2), np.int64)}

    def concurrent(self, streams: int) -> list[Splitting]:
        return [Splitting(self.opened, number + 1) for number in range(streams)]

    def close(self) -> None:
        self.opened.remove(self.number)


def test_each_request_has_the_suppression_of_its_session() -> None:
    opened: list[int] = []
    session = Suppressing(Splitting(opened), Suppression(0.5, False, 100))
    assert isinstance(session.session, Concurrent) and runs_concurrently(session)
    with concurrent(session, 3) as sessions:
        assert opened == [0, 1, 2, 3] and len(sessions) == 3
        for one in sessions:
            assert one.run(IMAGES).keys() == {"dets", "labels"}
    assert opened == [0]
    with concurrent(session, 1) as sessions:
        assert sessions == [session]
    with pytest.raises(StepFailed), concurrent(session, 2):
        raise StepFailed("in between")
    assert opened == [0]
    assert not runs_concurrently(Timed(1.0))


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_requests_at_once_find_what_one_finds(tmp_path: Path, runtime: str) -> None:
    pytest.importorskip(runtime)
    shape = Shape("s", Dims(1, 3, 32, 32), Dims(1, 3, 64, 64), Dims(2, 3, 64, 64))
    options, adapter = EngineOptions(runtime, "fp32", shape), RUNTIMES[runtime]
    adapter.build(PROJECT / "matrices" / "sources" / "peaks.onnx", tmp_path, options)
    session = adapter.open_engine(tmp_path, options, threads=2)
    random = np.random.default_rng(0)
    images = [random.normal(size=(n, 3, 64, 64)).astype(np.float32) for n in (1, 2, 1)]
    expected = [session.run(one) for one in images]
    assert all(one["dets"].any() for one in expected)
    with concurrent(session, 3) as sessions, ThreadPoolExecutor(3) as pool, ExitStack() as ends:
        ends.callback(session.close)
        assert len({id(one) for one in sessions}) == 3
        for _ in range(5):
            found = list(pool.map(lambda one, batch: one.run(batch), sessions, images))
            for one, other in zip(found, expected, strict=True):
                assert one.keys() == other.keys()
                for name in one:
                    np.testing.assert_allclose(one[name], other[name], rtol=1e-4, atol=1e-4)


def test_tensorrt_makes_a_context_and_a_stream_for_each_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a stand-in of its objects, since there may be no GPU here."""
    events: list[str] = []

    class Stream:
        def __init__(self) -> None:
            events.append("stream")

        def wait(self) -> None: ...

        def free(self) -> None:
            events.append("freed")

    tensor = SimpleNamespace(dynamic=False, free=lambda: None)
    log = SimpleNamespace(begin=lambda: None, out_of_memory=lambda: True, reason=lambda: "full")
    contexts: list[Any] = ["second", "third"]
    engine = SimpleNamespace(
        num_io_tensors=1,
        get_tensor_name=lambda i: "images",
        get_tensor_mode=lambda name: "in",
        create_execution_context=lambda: contexts.pop(0),
    )
    monkeypatch.setattr(tensorrt, "Stream", Stream)
    monkeypatch.setattr(tensorrt, "Input", lambda *_: tensor)
    monkeypatch.setattr(tensorrt, "logger", lambda _: log)
    library: Any = SimpleNamespace(TensorIOMode=SimpleNamespace(INPUT="in"))
    known: Any = None
    first = tensorrt.TensorRtEngine(library, known, None, engine, "first", True)
    both = first.concurrent(2)
    assert [one._context for one in both] == ["second", "third"] and len(events) == 3
    assert all(one._engine is engine and one._wants_graph for one in both)
    contexts += ["fourth", None]
    with pytest.raises(TransientFailure, match="no other execution context:\nfull"):
        first.concurrent(2)
    assert events == ["stream"] * 4 + ["freed"]
    assert isinstance(first, Concurrent)
