"""The stage `measure`, with the runtime that does nothing and with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PROJECT
from test_stages import finish, meta

from farm.catalog import RUNTIMES
from farm.datasets.prepared import PreparedWriter
from farm.measuring.server import Held, Service
from farm.measuring.throughput import Load, Throughput, best_throughput
from farm.specs import Dims, Engine, EngineOptions, MeasureInputs, Ref, Shape, Target
from farm.stages import Context, measure
from farm.store import Store
from farm.store.figures import KINDS, require_figures

FIXED = Shape("fixed", *[Dims(1, 3, 64, 64)] * 3)
DYNAMIC = Shape("dynamic", Dims(1, 3, 64, 64), Dims(2, 3, 64, 64), Dims(4, 3, 64, 64))


@pytest.fixture(autouse=True)
def no_load_is_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "best_throughput", partial(best_throughput, clock=lambda: 0.0))


def measured(
    folder: Path, shape: Shape, runtime: str = "null", threads: int = 1, **how: Any
) -> Mapping[str, Any]:
    context = Context(Store(folder / "store"), folder / "work", threads)
    context.folder.mkdir()
    built, prepared = Ref("build", "b"), Ref("prepare", "p")
    options = EngineOptions(runtime, "fp32", shape)
    engine = context.store.path(built) / "engine"
    engine.mkdir(parents=True)
    RUNTIMES[runtime].build(PROJECT / "matrices" / "sources" / "peaks.onnx", engine, options)
    context.store.path(prepared).mkdir(parents=True)
    with PreparedWriter(context.store.path(prepared)) as writer:
        writer.add(np.zeros((3, 64, 64), np.float32), meta(1, 64, 64))
    for ref in (built, prepared):
        finish(context.store, ref)
    figures = measure.run(
        MeasureInputs(
            Engine(options, built, None), prepared, Target("cpu", "here"), 0.02, 10.0, 0.0, 64,
            threads, **how,
        ),
        context,
    )  # fmt: skip
    assert len(np.load(context.folder / "samples.npy")) == figures["samples"] >= 64
    require_figures("measure", figures)
    return figures


def test_an_engine_is_measured_with_all_figures_of_a_record(tmp_path: Path) -> None:
    found = measured(tmp_path, DYNAMIC)
    assert (found["batch"], found["threads"]) == (2, 1)
    optional = {name for name in KINDS["measure"] if name.startswith(("gpu_", "server_"))}
    assert set(KINDS["measure"]) - set(found) == optional
    assert found["latency_includes"] == "copies, postprocessing in the graph"
    assert set(found["throughput_rates"]) == {"2x1", "4x1", "1x1"}  # batches x requests at once
    assert found["throughput_streams"] == 1 and found["throughput_batch"] in (1, 2, 4)


@pytest.mark.parametrize(("shape", "how"), [(FIXED, {}), (DYNAMIC, {"throughput_seconds": 0.0})])
def test_without_another_load_throughput_is_that_of_one_run_after_another(
    tmp_path: Path, shape: Shape, how: dict[str, float]
) -> None:
    found = measured(tmp_path, shape, **how)
    assert found["throughput_per_s"] == found["serial_images_per_s"]
    loads = (found["throughput_batch"], found["throughput_streams"], found["throughput_rates"])
    assert loads == (shape.opt.n, 1, {})


def test_an_engine_is_measured_as_a_server_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By how much it holds says nothing here: the runtime does nothing."""
    monkeypatch.setattr("farm.measuring.server.SECONDS", 0.0)
    found = measured(tmp_path, FIXED, server_p99_ms=60_000.0, server_seconds=600.0)
    assert found["server_bound_ms"] == 60_000 and found["server_streams"] == 1
    assert 0 < found["server_p99_ms"] <= 60_000
    assert 0 < found["server_rate_per_s"] < found["throughput_per_s"]  # a request is one image


@pytest.mark.parametrize(("batch", "expected"), [(2, (20.0, 4)), (1, (9.0, 1))])
def test_a_server_has_as_many_requests_at_once_as_gave_the_most_of_its_size(
    monkeypatch: pytest.MonkeyPatch, batch: int, expected: tuple[float, int]
) -> None:
    rates = {Load(2, 1): 30.0, Load(2, 4): 40.0, Load(2, 2): 35.0, Load(8, 4): 90.0}
    found = Throughput(Load(8, 4), 90.0, rates)
    if batch == 1:
        found = Throughput(Load(1, 1), 9.0, {})  # no other load was tried
    asked: list[tuple[float, int]] = []

    def record(service: Service, bound: float, seconds: float) -> Held:
        assert (bound, seconds) == (0.05, 7.0)
        asked.append((service.capacity, len(service.serve)))
        return Held(1.0)

    class Session:
        def run(self, images: Any) -> dict[str, Any]:
            return {}

        def concurrent(self, streams: int) -> list[Session]:
            return [Session() for _ in range(streams)]

        def close(self) -> None: ...

    monkeypatch.setattr(measure, "highest_rate", record)
    options = EngineOptions("null", "fp32", FIXED)
    inputs = MeasureInputs(
        Engine(options, None, None), Ref("prepare", "p"), Target("cpu", "here"), 1, 1, 1, 1, 4,
        server_p99_ms=50.0, server_seconds=7.0,
    )  # fmt: skip
    images = np.zeros((batch, 3, 8, 8), np.float32)
    assert measure.as_server(inputs, Session(), images, found)["server_streams"] == expected[1]
    assert asked == [expected]


@pytest.mark.slow
def test_onnx_runtime_is_tried_with_requests_at_once(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    found = measured(tmp_path, FIXED, "onnxruntime", threads=3)
    assert set(found["throughput_rates"]) == {"1x1", "1x3", "1x2"}
    assert found["throughput_per_s"] > 0 and found["throughput_streams"] in (1, 2, 3)
