"""A pack of small models on the CPU: `farm pack`, `farm run-pack` and `farm import` as users do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import PROJECT, Farm

from farm.config.loader import load_matrix
from farm.engine.local import LocalExecutor
from farm.engine.scheduler import StepStatus, run_steps
from farm.engine.workers.limits import Limits
from farm.engine.workers.supervise import TIME_IS_UP, Supervisor
from farm.offline import contents
from farm.offline.relocate import relocate, this_machine
from farm.offline.run import LineProgress, TimeBudget
from farm.offline.unpack import unpack
from farm.plan import make_plan
from farm.store import Store
from farm.store.facts import facts_from
from farm.store.figures import MACHINE
from farm.store.records import digest_of

pytestmark = pytest.mark.slow

MATRIX = """\
name: tiny
models:
  onestage:
    config: {demo}/onestage.py
    checkpoint: {demo}/onestage.pth
    postprocess: [host]
  twostage: {{config: {demo}/twostage.py, checkpoint: {demo}/twostage.pth, shapes: [fixed]}}
opsets: [17]
shapes:
  fixed: {{opt: 160x160}}
  dynamic: {{min: 1x3x128x128, opt: 1x3x160x160, max: 2x3x192x192}}
runtimes: [onnxruntime]
dataset: {{type: synthetic, count: 4, seed: 7, size: 160}}
measure: {{seconds: 0.1, warmup_seconds: 0, min_samples: 10, threads: 1}}
compare: false
verify: {{images: 4}}
"""

CELLS = [
    "onestage.op17.fixed.host.fp32.onnxruntime.cpu",
    "twostage.op17.fixed.fp32.onnxruntime.cpu",
    "onestage.op17.dynamic.host.fp32.onnxruntime.cpu",
]

Run = Namespace
"""What `run-pack` came to: code, out, err, and the file of records."""


def no_network() -> list[str]:
    """The beginning of a command without network, where the system allows that."""
    words = ["unshare", "-rn"]
    try:
        subprocess.run([*words, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return words


def command(pack: Path, machine: Path, *words: object) -> list[str]:
    farm = [sys.executable, "-m", "farm", "run-pack", str(pack), "--results", str(machine)]
    return [*no_network(), *farm, *map(str, words)]


def run_pack(pack: Path, machine: Path, *words: object) -> Run:
    done = subprocess.run(
        command(pack, machine, *words), cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    records = machine / "packs" / "tiny.pack.records.tar.gz"
    return Run(code=done.returncode, out=done.stdout, err=done.stderr, records=records)


def built(run: Run) -> list[str]:
    """The cells whose engines were built, in order."""
    return [line.split()[-2].rstrip(":") for line in run.err.splitlines() if "] build " in line]


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("matrix") / "tiny.yaml"
    path.write_text(MATRIX.format(demo=PROJECT / "matrices" / "demo"))
    return path


@pytest.fixture(scope="module")
def packed(matrix: Path, farm: Farm) -> Path:
    """The archive; the results of the machine that packed it are in `r` beside the matrix."""
    archive = matrix.parent / "tiny.pack.tar.gz"
    words = ("--executor", "inline", "--results", matrix.parent / "r", "--output", archive)
    done = farm("pack", matrix, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == [str(archive)]
    return archive


@contextmanager
def hidden(folder: Path) -> Iterator[None]:
    """Another machine has none of what is there."""
    folder.rename(folder.with_name("hidden"))
    try:
        yield
    finally:
        folder.with_name("hidden").rename(folder)


@pytest.fixture(scope="module")
def done(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine that has run the whole pack, without the store that it was made from."""
    machine = tmp_path_factory.mktemp("machine")
    with hidden(packed.parent / "r"):
        run = run_pack(packed, machine)
    assert run.code == 0, run.out + run.err
    assert built(run) == CELLS  # every model once before anything else of one
    return machine


def test_records_from_another_machine_are_those_of_a_sweep(
    matrix: Path, done: Path, tmp_path: Path, farm: Farm
) -> None:
    records = done / "packs" / "tiny.pack.records.tar.gz"
    assert records.stat().st_size < 200_000
    told = farm("import", records, "--results", tmp_path / "r", "--no-mlflow")
    assert told.returncode == 0, told.stdout + told.stderr
    imported = pd.read_parquet(tmp_path / "r" / "leaderboard").set_index("cell")
    swept = farm(
        "run", matrix, "--executor", "inline", "--no-mlflow", "--results", tmp_path / "swept"
    )
    assert swept.returncode == 0, swept.stdout + swept.stderr
    own = pd.read_parquet(tmp_path / "swept" / "leaderboard").set_index("cell")
    assert sorted(imported.index) == sorted(CELLS)
    varying = {name for name in own if name.startswith(("latency", "peak", "evaluate_images"))}
    varying |= {name for name in own if name.startswith(("throughput", "serial_images"))}
    varying |= {
        "samples",
        "stable",
        "build_s",
        "export_s",
        "dataset",
        "origin",
        "measured_at",
        "host",
        *MACHINE,
    }
    same = [name for name in own if name not in varying]
    pd.testing.assert_frame_equal(imported.loc[CELLS, same], own.loc[CELLS, same])
    assert (imported.latency_p50_ms > 0).all() and (imported.status == "ok").all()
    assert set(imported.origin.str[12:]) == {" tiny.pack.records.tar.gz"}
    assert set(own.origin) == {"here"}


def test_imported_records_and_packed_artifacts_are_no_work_of_a_sweep(
    matrix: Path, done: Path, tmp_path: Path, farm: Farm
) -> None:
    """Neither the records that come home, nor what a pack left in the results of its machine."""
    results = tmp_path / "r"
    shutil.copytree(done, results)
    records = results / "packs" / "tiny.pack.records.tar.gz"
    assert farm("import", records, "--results", results, "--no-mlflow").returncode == 0
    plan = json.loads(farm("plan", matrix, "--json", "--results", results).stdout)
    assert not any(step["in_store"] for step in plan["steps"].values())
    with tarfile.open(records) as tar:
        assert not [name for name in tar.getnames() if name.endswith((".onnx", ".bin"))]


def test_where_nothing_differs_every_step_has_its_planned_key(
    matrix: Path, packed: Path, tmp_path: Path
) -> None:
    store = Store(matrix.parent / "r" / "store")
    plan = make_plan(load_matrix(matrix), facts_from(store))
    pack = unpack([packed], Store(tmp_path))
    here = relocate(pack, pack.cells, this_machine(), "anywhere/")
    remaining = {key: step for key, step in plan.steps.items() if step.stage in contents.INPUTS}
    assert here.plan.steps.keys() == remaining.keys() and len(remaining) == 12
    for key, step in here.plan.steps.items():
        assert (step.inputs, step.needs) == (remaining[key].inputs, remaining[key].needs)


def test_it_resumes_and_ends_when_the_time_is_up(packed: Path, tmp_path: Path) -> None:
    first = run_pack(packed, tmp_path, "--minutes", "0.0001")
    assert first.code == 130, first.err
    assert "3 pending" in first.err and "the same command continues from there" in first.err
    assert first.records.is_file()
    one = run_pack(packed, tmp_path, "--model", "onestage", "--shape", "fixed")
    assert one.code == 0 and built(one) == CELLS[:1] and one.out.count(" ok") == 1
    rest = run_pack(packed, tmp_path)
    assert rest.code == 0 and built(rest) == CELLS[1:], rest.err
    again = run_pack(packed, tmp_path)
    assert again.code == 0 and built(again) == [] and again.out == rest.out


def test_it_ends_in_order_when_it_is_interrupted(packed: Path, tmp_path: Path) -> None:
    words = [word for word in command(packed, tmp_path) if word not in no_network()]
    process = subprocess.Popen(
        words, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    store = tmp_path / "packs" / "store"
    deadline = time.monotonic() + 60
    while not list(store.glob("build/*/*/record.json")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in said, said
    assert "Interrupted. What was finished is kept" in said and "pending" in said
    assert list((store / "tmp").iterdir()) == []
    rest = run_pack(packed, tmp_path)
    assert rest.code == 0 and rest.out.count(" ok") == 3 and len(built(rest)) == 2


def test_killed_at_any_moment_it_goes_on(packed: Path, tmp_path: Path) -> None:
    words = [word for word in command(packed, tmp_path) if word not in no_network()]
    for delay in (1.0, 2.5):
        process = subprocess.Popen(
            words, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(delay)
        process.kill()
        process.wait()
    rest = run_pack(packed, tmp_path)
    assert rest.code == 0 and rest.out.count(" ok") == 3, rest.err


def test_a_crash_and_a_hang_cost_their_own_step(packed: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    pack = unpack([packed], store)
    plan = relocate(pack, pack.cells[:1], this_machine(), "cache/").plan
    build, *others = plan.steps.values()
    over = LocalExecutor(store, until=time.monotonic() + 0.05)
    assert over.take(build) and not over.take(others[0])
    assert over.wait().status is StepStatus.SKIPPED
    assert store.failure(build.key) is None  # the next run tries it again
    late = LocalExecutor(store, Limits({"build": 0.05}))
    late.take(build)
    stuck = late.wait()
    assert (stuck.status, stuck.kind) == (StepStatus.FAILED, "timeout")
    assert store.failure(build.key) is not None
    dead = tmp_path / "dead"
    dead.mkdir()
    (dead / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'serve' in sys.orig_argv[-1]:\n"
        "    import os; os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), 11))\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{dead}:{os.environ.get('PYTHONPATH', '')}")
        executor = LocalExecutor(store)
        executor._supervisor = Supervisor()
        lines = LineProgress(TimeBudget(time.monotonic(), 600))
        outcomes = run_steps(plan.steps, store, lambda: executor, lines, retry_failed=True)
        executor._supervisor.close()
    assert "signal 11" in outcomes[build.key].reason
    assert {outcomes[step.key].status for step in others} == {"blocked"}
    failure = store.failure(build.key)
    assert failure is not None and "signal 11" in failure.reason
    assert outcomes[build.key].reason != TIME_IS_UP


def test_a_failure_is_brought_home_and_can_be_tried_again(
    packed: Path, tmp_path: Path, farm: Farm
) -> None:
    """A step that takes longer than it may is no record, but a reason all the same."""
    late = run_pack(packed, tmp_path, "--model", "twostage", "--limit", "build=0.1s")
    assert late.code == 1 and "did not finish within" in late.out + late.err
    told = farm("import", late.records, "--results", tmp_path / "home", "--no-mlflow")
    assert told.returncode == 0 and "did not finish within" in told.stdout
    again = run_pack(packed, tmp_path, "--model", "twostage", "--retry-failed")
    assert again.code == 0, again.err


def test_parts_stay_under_their_size_and_are_joined(
    matrix: Path, packed: Path, tmp_path: Path, farm: Farm
) -> None:
    words = ("--executor", "inline", "--results", matrix.parent / "r", "--part-size", "2MiB")
    told = farm("pack", matrix, *words, "--output", tmp_path / "tiny.pack.tar.gz")
    assert told.returncode == 0, told.stderr
    parts = [Path(line) for line in told.stdout.split()]
    assert [part.name[-4:] for part in parts] == ["1of4", "2of4", "3of4", "4of4"]
    assert {part.stat().st_size for part in parts[:-1]} == {2 << 20}
    assert b"".join(part.read_bytes() for part in parts) == packed.read_bytes()
    assert not (tmp_path / "tiny.pack.tar.gz").exists()
    run = run_pack(parts[2], tmp_path / "m", "--model", "onestage", "--shape", "fixed")
    assert run.code == 0, run.err  # the others were found beside it
    parts[1].unlink()
    absent = run_pack(parts[0], tmp_path / "m")
    assert absent.code == 2 and f"{parts[1]}: no such part" in absent.err
    again = farm("pack", matrix, *words[:4], "--output", tmp_path / "tiny.pack.tar.gz")
    assert again.returncode == 0 and sorted(one.name for one in tmp_path.iterdir()) == [
        "m", "tiny.pack.tar.gz",
    ]  # fmt: skip


def test_a_pack_of_chosen_cells(matrix: Path, tmp_path: Path, farm: Farm) -> None:
    words = ("--executor", "inline", "--results", matrix.parent / "r")
    archive = tmp_path / "one.tar.gz"
    told = farm("pack", matrix, *words, "--output", archive, "--model", "twostage")
    assert told.returncode == 0 and "1 cells, 4 steps" in told.stderr
    pack = unpack([archive], Store(tmp_path / "store"))
    assert [one.cell.model for one in pack.cells] == ["twostage"]
    assert {ref.stage for ref in pack.carried} == {"check", "prepare", "reference", "export"}
    wrong = farm("pack", matrix, *words, "--model", "twostagee")
    assert wrong.returncode == 2 and "did you mean 'twostage'" in wrong.stderr
    other = run_pack(archive, tmp_path / "m", "--model", "onestage")
    assert other.code == 2 and "--model: no cell has model 'onestage'" in other.err


def test_a_model_that_fails_before_the_build_is_brought_home_too(
    matrix: Path, tmp_path: Path, farm: Farm
) -> None:
    bad = tmp_path / "bad.yaml"
    text = matrix.read_text().replace("name: tiny", "name: bad")
    code = "def ends():\n    raise SystemExit(3)\n"
    (tmp_path / "ends.py").write_text(code)
    model = "models:\n  ends: {source: module, function: 'ends:ends', outputs: raw}\n"
    bad.write_text(text.replace("models:\n", model, 1))
    archive = tmp_path / "tiny.pack.tar.gz"
    words = ("--executor", "inline", "--results", tmp_path / "r", "--output", archive)
    told = farm("pack", bad, *words, "--shape", "fixed", "--model", "ends", "--model", "twostage")
    assert told.returncode in (0, 1), told.stderr
    run = run_pack(archive, tmp_path / "m")
    assert run.code == 1, run.err
    assert run.out.count(" ok") == 1 and "SystemExit" in run.out
    again = farm("import", run.records, "--results", tmp_path / "home", "--no-mlflow")
    assert again.returncode == 0 and "SystemExit" in again.stdout


def test_bad_records_are_told(done: Path, tmp_path: Path, farm: Farm) -> None:
    def told(records: Path) -> str:
        ended = farm("import", records, "--results", tmp_path / "r", "--no-mlflow")
        assert ended.returncode == 2 and "Traceback" not in ended.stderr, ended.stderr
        assert not (tmp_path / "r").exists()  # nothing was taken in
        return ended.stderr

    archive = done / "packs" / "tiny.pack.records.tar.gz"
    assert "no such folder or archive" in told(tmp_path / "nowhere")
    torn = tmp_path / "torn.tar.gz"
    torn.write_bytes(archive.read_bytes()[:-500])
    assert "damaged, or not an archive of records" in told(torn)
    other = tmp_path / "other.tar.gz"
    with tarfile.open(other, "w:gz") as tar:
        tar.add(PROJECT / "pyproject.toml", "pyproject.toml")
    assert told(other).startswith(f"farm: {other}")
    folder = tmp_path / "records"
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    sweep = folder / "sweep.json"
    whole = sweep.read_text()
    sweep.write_text(whole[: len(whole) // 2])
    assert "sweep.json: damaged, or not a folder of records" in told(folder)
    sweep.write_text(json.dumps({**json.loads(whole), "version": 7}))
    assert "version 7; this farm reads version 1 and 2" in told(folder)
    sweep.write_text(json.dumps({**json.loads(whole), "cells": []}))
    assert "unexpected" in told(folder)
    sweep.write_text(whole)
    record = next((folder / "store" / "measure").glob("*/*/record.json"))
    good = record.read_text()
    changed = good.replace('"seconds": 0.1', '"seconds": 0.2')
    record.write_text(changed)
    assert f"{record}: damaged" in told(folder) and "changed: its sha256" in told(folder)
    digest = digest_of(json.loads(changed))
    record.write_text(json.dumps({**json.loads(changed), "digest": digest}))
    assert f"{record}: its key does not fit its inputs" in told(folder)
    record.write_text(good)
    samples = record.with_name("samples.npy")
    np.save(samples, np.load(samples)[:-1])
    assert f"{record}: damaged" in told(folder)
