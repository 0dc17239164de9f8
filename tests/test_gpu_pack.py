"""A pack of small models, accepted on a CPU: the chain that a GPU machine goes through."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import PROJECT, Farm

from farm.acceptance import records
from farm.acceptance.steps import Place, remaining
from farm.catalog import PRECISIONS
from farm.config.loader import load_matrix
from farm.config.schema import VerifySpec
from farm.errors import InputError
from farm.plan import make_plan
from farm.specs import ModelFacts, Suppression, Target
from farm.store import Failure, Store

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
dataset: {{type: shapes, count: 4, seed: 7, size: 160}}
measure: {{seconds: 0.1, warmup_seconds: 0, min_samples: 10, threads: 1}}
verify: {{images: 4}}
"""

CELLS = [
    "onestage.op17.fixed.host.fp32.onnxruntime.cpu",
    "twostage.op17.fixed.fp32.onnxruntime.cpu",
    "onestage.op17.dynamic.host.fp32.onnxruntime.cpu",
]


def accept(pack: Path, place: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(pack, place, *words), capture_output=True, text=True, check=False)


def command(pack: Path, place: Path, *words: object) -> Sequence[str]:
    script = str(PROJECT / "gpu" / "acceptance.py")
    places = ("--store", str(place / "store"), "--out", str(place / "out"))
    return [sys.executable, script, str(pack), *places, *map(str, words)]


def last(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("matrix") / "tiny.yaml"
    path.write_text(MATRIX.format(demo=PROJECT / "matrices" / "demo"))
    return path


@pytest.fixture(scope="module")
def packed(matrix: Path) -> Path:
    """The archive; the folder that it was made from lies beside it, and the store of the maker."""
    folder = matrix.parent / "pack"
    words = [sys.executable, "-m", "farm.acceptance.pack", str(matrix), str(folder)]
    words += ["--results", str(matrix.parent / "r"), "--executor", "inline", "--without-packages"]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return matrix.parent / "pack.tar.xz"


@pytest.fixture(scope="module")
def accepted(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the whole pack was accepted: `store` and `out`."""
    place = tmp_path_factory.mktemp("machine")
    done = accept(packed, place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert last(done)["cells"] == {"ok": 3, "failed": 0, "pending": 0}
    order = [line.split()[-2].rstrip(":") for line in done.stderr.splitlines() if " build " in line]
    assert order == CELLS  # every model once before anything else of one
    return place


def test_weights_of_two_values_come_back_byte_for_byte(tmp_path: Path) -> None:
    import onnx
    import torch

    from farm.acceptance import signs
    from farm.acceptance.models import two_valued

    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 64, 3), torch.nn.BatchNorm2d(64), torch.nn.Conv2d(64, 64, 3)
    ).eval()
    two_valued(net)
    net[0].weight.data += 0.1 * torch.rand_like(net[0].weight)  # this one stays as it is
    paths = [tmp_path / f"{name}.onnx" for name in "ab"]
    for path, size in zip(paths, (8, 16), strict=True):
        torch.onnx.export(net, torch.zeros(1, 3, size, size), path, dynamo=False)
    for kind in (np.float16, np.int8):  # as `convert` and other quantisers leave them
        model = onnx.load(paths[0])
        for tensor in model.graph.initializer:
            if len(tensor.dims) > 1:
                values = onnx.numpy_helper.to_array(tensor)
                values = 127 * np.sign(values) if kind is np.int8 else values
                tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(kind), tensor.name))
        paths.append(tmp_path / f"{kind.__name__}.onnx")
        onnx.save(model, paths[-1])
    (tmp_path / "blocks").mkdir()
    for path in paths:
        signs.take_apart(path, tmp_path / "parts" / path.name, tmp_path / "blocks")
        signs.put_together(
            tmp_path / "parts" / path.name, tmp_path / "blocks", tmp_path / f"{path.name}.again"
        )
        assert (tmp_path / f"{path.name}.again").read_bytes() == path.read_bytes()
    assert len(list((tmp_path / "blocks").iterdir())) == 1  # shared by all
    size = sum(path.stat().st_size for path in (tmp_path / "parts").iterdir())
    assert size < sum(path.stat().st_size for path in paths) / 4
    assert onnx.load(tmp_path / "a.onnx.again").graph.node


def test_a_precision_has_thresholds_of_its_own() -> None:
    path = PROJECT / "matrices" / "gpu.yaml"
    limits = load_matrix(path).spec.verify
    assert limits.of("fp16").max_score_diff == 0.02 and limits.of("fp32").max_score_diff == 1e-3
    assert limits.of("fp16").min_iou == limits.min_iou
    for wrong in ("fp17: {max_score_diff: 1}", "fp16: {max_skore: 1}", "fp16: {min_iou: -1}"):
        with pytest.raises(InputError, match=r"verify\.precisions"):
            load_matrix(path, [f"verify.precisions={{{wrong}}}"])


def gpu_pack(folder: Path, *overrides: str) -> Any:
    """A pack for TensorRT in two precisions, as far as planning alone makes it."""
    from farm.acceptance.pack import packed

    path = folder / "planned.yaml"
    path.write_text(MATRIX.format(demo=PROJECT / "matrices" / "demo"))
    words = [
        "runtimes=[tensorrt]",
        "precisions=[fp32, fp16]",
        "targets={h100: {accelerator: H100, driver: 580}}",
    ]
    matrix = load_matrix(path, [*words, *overrides])
    facts = ModelFacts(("shape",), False, "[]", suppression=Suppression(0.5, False, 100))
    return packed(matrix, make_plan(matrix, lambda key: facts))


def test_a_pack_judges_each_precision_as_its_matrix_does(tmp_path: Path) -> None:
    for words in ([], ["verify.min_iou=0.6", "verify.precisions={int8: {max_score_diff: 0.5}}"]):
        pack = gpu_pack(tmp_path, *words)
        limits = load_matrix(tmp_path / "planned.yaml", words).spec.verify
        packed = VerifySpec.model_validate(json.loads(json.dumps(pack.verify)))
        for precision in PRECISIONS:
            assert packed.of(precision) == limits.of(precision)


def test_the_readmes_pack_of_trained_weights_can_be_planned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from farm.acceptance.pack import packed

    for name in ("COCO_MINI", "CHECKPOINTS"):
        monkeypatch.setenv(name, str(tmp_path))
    text = (PROJECT / "gpu" / "README.md").read_text().replace("\\\n", " ")
    (line,) = [line for line in text.splitlines() if "acceptance.pack matrices/coco-mini" in line]
    python, dash_m, module, path, _folder, *words = shlex.split(line)
    assert (python, dash_m, module) == ("python", "-m", "farm.acceptance.pack")
    matrix = load_matrix(PROJECT / path, words)
    facts = ModelFacts(("person",), False, "[]", suppression=Suppression(0.65, False, 100))
    pack = packed(matrix, make_plan(matrix, lambda key: facts))
    assert [one.cell.precision for one in pack.cells] == ["fp32", "fp16", "int8"]
    assert all(one.build is not None for one in pack.cells)


@pytest.mark.parametrize("runtime", ["onnxruntime", "onnxruntime_cuda", "onnxruntime_tensorrt"])
def test_what_the_builder_was_to_lower_is_no_file_for_another_runtime(
    tmp_path: Path, runtime: str
) -> None:
    def precisions(pack: Any, runtime: str | None) -> set[str]:
        place = Place(Target("h100", "H100", "H100"), runtime)
        return {work.cell.precision for work in remaining(pack, place)}

    flags = gpu_pack(tmp_path, "runtime_options={tensorrt: {builder_flags: true}}")
    assert precisions(flags, None) == {"fp32", "fp16"}
    assert precisions(flags, runtime) == {"fp32"}
    converted = gpu_pack(tmp_path)
    assert precisions(converted, runtime) == {"fp32", "fp16"}


def test_a_folder_that_is_no_pack_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from farm.acceptance import pack

    def told(folder: Path) -> str:
        monkeypatch.setattr(sys, "argv", ["pack", str(tmp_path / "no-matrix.yaml"), str(folder)])
        assert pack.main() == 2
        return capsys.readouterr().err

    kept = tmp_path / "data" / "kept.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    assert f"{kept.parent}: neither empty nor a pack" in told(kept.parent)
    assert f"{kept}: neither empty nor a pack" in told(kept)
    assert kept.read_text() == "mine"
    (kept.parent / "pack.json").write_text("{}")
    for good in (kept.parent, tmp_path / "new"):
        assert "no-matrix.yaml" in told(good)


def test_a_folder_that_cannot_be_made_is_told_before_the_work(
    matrix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from farm.acceptance import pack

    def work(*_: Any) -> None:
        pytest.fail("it began all the same")

    monkeypatch.setattr(pack, "done_before", work)
    monkeypatch.setattr(sys, "argv", ["pack", str(matrix), "/proc/no/pack"])
    assert pack.main() == 2


def test_a_pack_carries_no_plugins_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from farm.acceptance import pack

    path = tmp_path / "tiny.yaml"
    path.write_text(MATRIX.format(demo=tmp_path / "absent"))  # it ends before any work
    words = ["runtimes=[tensorrt]", "targets={h100: {accelerator: H100, driver: 580}}"]
    words.append("runtime_options={tensorrt: {plugins: [libmine.so]}}")
    monkeypatch.setattr(sys, "argv", ["pack", str(path), str(tmp_path / "new"), *words])
    assert pack.main() == 2
    said = capsys.readouterr().err
    assert "a pack does not carry plug-in libraries" in said and "runtime_options" in said


def test_imported_records_are_those_of_a_sweep(
    matrix: Path, packed: Path, accepted: Path, tmp_path: Path, farm: Farm
) -> None:
    words = ("--results", tmp_path / "r", "--no-mlflow")
    done = farm("import", accepted / "out" / "records.tar.gz", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    brought = pd.read_parquet(tmp_path / "r" / "leaderboard").set_index("cell")
    done = farm(
        "run", matrix, "--executor", "inline", "--no-mlflow", "--results", matrix.parent / "r"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    swept = pd.read_parquet(matrix.parent / "r" / "leaderboard").set_index("cell")
    assert sorted(brought.index) == sorted(CELLS)
    varying = {name for name in swept if name.startswith(("latency", "peak", "evaluate_images"))}
    varying |= {"samples", "throughput_per_s", "stable", "build_s", "export_s", "origin"}
    same = [name for name in swept if name not in varying]
    pd.testing.assert_frame_equal(brought.loc[CELLS, same], swept.loc[CELLS, same])
    assert (brought.latency_p50_ms > 0).all() and (brought.build_s > 0).all()
    assert (brought.status == "ok").all()
    assert set(swept.origin) == {"here"} and set(brought.origin.str[12:]) == {" records.tar.gz"}


def test_records_are_small_and_what_stayed_behind_is_not_taken_for_done(
    accepted: Path, matrix: Path, tmp_path: Path, farm: Farm
) -> None:
    archive = accepted / "out" / "records.tar.gz"
    assert archive.stat().st_size < 200_000
    with tarfile.open(archive) as tar:
        assert not [name for name in tar.getnames() if name.endswith((".onnx", ".bin"))]
        tar.extractall(tmp_path / "records", filter="data")
    results = tmp_path / "r"
    assert farm("import", tmp_path / "records", "--results", results).returncode == 0
    again = farm("import", archive, "--results", results)
    assert again.returncode == 0 and "0 new records" in again.stderr
    plan = json.loads(farm("plan", matrix, "--json", "--results", results).stdout)
    assert not any(step["in_store"] for step in plan["steps"].values())
    done_run = farm("run", matrix, "--executor", "inline", "--results", results)
    assert done_run.returncode == 0 and next((results / "store/build").glob("*/*/engine/*.onnx"))


def test_two_targets_of_one_sweep_stand_side_by_side(
    accepted: Path, tmp_path: Path, farm: Farm
) -> None:
    results = tmp_path / "r"
    with tarfile.open(accepted / "out" / "records.tar.gz") as tar:
        tar.extractall(tmp_path / "records", filter="data")
    sweep = tmp_path / "records" / "sweep.json"
    words = ("--results", results, "--no-mlflow")
    assert farm("import", tmp_path / "records", *words).returncode == 0
    sweep.write_text(sweep.read_text().replace('"target": "cpu"', '"target": "other"'))
    assert farm("import", tmp_path / "records", *words).returncode == 0
    assert set(pd.read_parquet(results / "leaderboard").target) == {"cpu", "other"}


def test_it_resumes_and_ends_when_the_time_is_up(packed: Path, tmp_path: Path) -> None:
    done = accept(packed, tmp_path, "--minutes", "0")
    assert done.returncode == 130, done.stderr
    assert last(done)["cells"] == {"ok": 0, "failed": 0, "pending": 3}
    assert "the same command goes on from there" in done.stderr
    one = accept(packed, tmp_path, "--only", "onestage", "--only", "fixed")
    assert one.returncode == 0 and last(one)["cells"] == {"ok": 1, "failed": 0, "pending": 0}
    rest = accept(packed, tmp_path)
    assert rest.returncode == 0, rest.stderr
    assert CELLS[0] not in rest.stderr and CELLS[1] in rest.stderr
    assert "0 artifacts from the pack are new" in rest.stderr
    again = accept(packed, tmp_path)
    assert again.returncode == 0 and "build" not in again.stderr
    assert again.stdout.splitlines()[:-1] == rest.stdout.splitlines()[:-1]


def test_another_machine_goes_on_from_the_records(
    packed: Path, accepted: Path, tmp_path: Path
) -> None:
    first = accept(packed, tmp_path / "a", "--only", "twostage")
    assert first.returncode == 0, first.stderr
    brought = ("--records", tmp_path / "a" / "out" / "records.tar.gz")
    done = accept(packed, tmp_path / "b", *brought)
    assert done.returncode == 0, done.stderr
    assert "twostage" not in done.stderr and "build" in done.stderr
    assert last(done)["cells"] == {"ok": 3, "failed": 0, "pending": 0}
    whole = accept(packed, tmp_path / "c", "--records", tmp_path / "b" / "out" / "records.tar.gz")
    assert whole.returncode == 0 and "build" not in whole.stderr
    names = []
    for place in (accepted, tmp_path / "c"):
        with tarfile.open(place / "out" / "records.tar.gz") as tar:
            names.append(sorted(tar.getnames()))
    assert names[0] == names[1]


def test_it_ends_in_order_when_it_is_told_to(packed: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(packed, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not list((tmp_path / "store").glob("store/build/*/*/record.json")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in said, said
    found = json.loads(out.splitlines()[-1])
    assert found["ended"] == "interrupted" and found["cells"]["pending"] > 0
    assert (tmp_path / "out" / "records.tar.gz").is_file()
    assert list((tmp_path / "store" / "store" / "tmp").iterdir()) == []


def test_a_crash_and_a_hang_cost_their_own_step(packed: Path, tmp_path: Path) -> None:
    """Real ones, of a child process: a signal as TensorRT's crashes give, and a stuck step."""
    from farm.acceptance import contents
    from farm.acceptance.machine import cpu_target
    from farm.acceptance.worker import Worker

    store = Store(tmp_path / "store")
    (step,) = [
        work.steps[0]
        for work in remaining(contents.read(packed.parent / "pack"), Place(cpu_target()))
        if work.cell.id == CELLS[0]
    ]
    worker = Worker(store)
    stuck = worker.perform(step, 0.0)
    assert stuck.status == "transient" and "took longer than 0 s" in stuck.reason
    assert store.failure(step.key) is None
    worker.stop()
    dying = subprocess.run(
        [sys.executable, "-c", CRASH, str(tmp_path / "store"), str(packed.parent / "pack")],
        capture_output=True, text=True, check=False, cwd=PROJECT,
    )  # fmt: skip
    assert dying.returncode == 0, dying.stderr
    assert "signal 11 (SIGSEGV)" in dying.stdout
    failure = store.failure(step.key)
    assert failure is not None and "SIGSEGV" in failure.reason


CRASH = """
import multiprocessing, os, sys, threading, time
from pathlib import Path
from farm.acceptance import contents
from farm.acceptance.machine import cpu_target
from farm.acceptance.steps import Place, remaining
from farm.acceptance.worker import Worker
from farm.store import Store

def crash(store, key):
    while not list(store.root.glob(f"tmp/{key}.*/step.log")):
        time.sleep(0.001)
    os.kill(multiprocessing.active_children()[0].pid, 11)

if __name__ == "__main__":
    store, pack = Store(sys.argv[1]), contents.read(Path(sys.argv[2]))
    step = remaining(pack, Place(cpu_target()))[0].steps[0]
    threading.Thread(target=crash, args=(store, step.key), daemon=True).start()
    print(Worker(store).perform(step, 60).reason)
"""


def test_without_a_gpu_it_says_so(packed: Path, tmp_path: Path) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU here")
    done = accept(packed, tmp_path, "--runtime", "tensorrt")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "no GPU" in done.stderr or "no NVIDIA GPU" in done.stderr


def test_bad_packs_are_told(packed: Path, tmp_path: Path) -> None:
    def told(pack: Path) -> str:
        done = accept(pack, tmp_path / "m")
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        return done.stderr

    assert "no such pack" in told(tmp_path / "nowhere.tar.xz")
    torn = tmp_path / "torn.tar.xz"
    torn.write_bytes(packed.read_bytes()[:-1000])
    assert "torn, or not a pack" in told(torn)
    torn.write_bytes(b"not an archive")
    assert "torn, or not a pack" in told(torn)
    folder = tmp_path / "folder"
    folder.mkdir()
    assert "no pack here" in told(folder)
    whole = json.loads((packed.parent / "pack" / "pack.json").read_text())
    for change, said in (
        ({"version": 99}, "version 99; this farm reads version 3"),
        ({"cells": "x"}, "'cells'"),
        ({"more": 1}, "'more'"),
    ):
        (folder / "pack.json").write_text(json.dumps({**whole, **change}))
        assert said.strip("'") in told(folder)
    (folder / "pack.json").write_text(json.dumps(whole))
    assert "torn: check" in told(folder)  # its artifacts are not there


def test_a_store_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    pack, store = tmp_path / "pack.tar.xz", tmp_path / "store"
    pack.write_bytes(b"any")
    store.write_text("a file in its place")
    done = accept(pack, tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.startswith(f"farm: {store}") and "Not a directory" in done.stderr


def test_a_pack_without_a_cell_for_the_runtime_is_told(tmp_path: Path) -> None:
    from farm.acceptance import contents

    flags = "runtime_options={tensorrt: {builder_flags: true}}"
    contents.write(gpu_pack(tmp_path, flags, "precisions=[fp16]"), tmp_path)
    done = accept(tmp_path, tmp_path, "--runtime", "onnxruntime")
    assert done.returncode == 2, done.stderr
    assert "--runtime: no cell of this pack has a file for onnxruntime" in done.stderr


def test_wrong_models_to_draw_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from farm.acceptance import models

    table, folder = PROJECT / "gpu" / "models.yaml", tmp_path / "drawn"
    for words, said in (
        ([tmp_path / "none.yaml", folder], "none.yaml: not a table of models"),
        ([table, folder, "retinanett"], "did you mean 'retinanet'?"),
    ):
        monkeypatch.setattr(sys, "argv", ["models", *map(str, words)])
        assert models.main() == 2
        assert said in capsys.readouterr().err
        assert not folder.exists()


def test_the_cuda_provider_is_left_out_where_its_package_is_not_the_one_that_keys_count() -> None:
    from farm.acceptance.machine import ort_cuda_missing
    from farm.plan.packages import version

    if version("onnxruntime-gpu") != "absent":
        pytest.skip("onnxruntime-gpu is installed here")
    assert "onnxruntime-gpu is not installed" in str(ort_cuda_missing())


def test_bad_records_are_told(accepted: Path, tmp_path: Path, farm: Farm) -> None:
    def told(records: Path) -> str:
        done = farm("import", records, "--results", tmp_path / "r", "--no-mlflow")
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        assert not (tmp_path / "r").exists()  # nothing was taken in
        return done.stderr

    archive = accepted / "out" / "records.tar.gz"
    assert "no such folder or archive" in told(tmp_path / "nowhere")
    torn = tmp_path / "torn.tar.gz"
    torn.write_bytes(archive.read_bytes()[:-500])
    assert "torn, or not an archive of records" in told(torn)
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
    assert "sweep.json: torn, or not a folder of records" in told(folder)
    sweep.write_text(json.dumps({**json.loads(whole), "version": 7}))
    assert "version 7; this farm reads version 1" in told(folder)
    sweep.write_text(json.dumps({**json.loads(whole), "cells": []}))
    assert "foreign" in told(folder)
    sweep.write_text(whole)
    record = next((folder / "store" / "measure").glob("*/*/record.json"))
    good = record.read_text()
    record.write_text(good.replace('"seconds": 0.1', '"seconds": 0.2'))
    assert f"{record}: its key does not fit its inputs" in told(folder)
    record.write_text(good)
    samples = record.with_name("samples.npy")
    np.save(samples, np.load(samples)[:-1])
    assert f"{record}: torn" in told(folder)


@pytest.fixture
def h200(tmp_path: Path) -> Path:
    """The committed records, to change; from before `sweep.json` had digests."""
    return Path(shutil.copytree(PROJECT / "results" / "records" / "h200", tmp_path / "h200"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"name": "gpu"', '"name": "../../../esc"', "name: '../../../esc' is not a name"),
        ('"target": "h200"', '"target": "../esc"', "target: '../esc' is not a name"),
        ('"model": "retinanet"', '"model": "a/b"', "model: 'a/b' is not a name"),
        ('"runtime": "tensorrt"', '"runtime": "nonesuch"', "unknown runtime 'nonesuch'"),
        ('"precision": "fp16"', '"precision": "fp17"', "unknown precision 'fp17'"),
        ('"reference": "', '"../reference": "', "unknown stage '../reference'"),
        ('"reference": "', '"reference": "../', "is not a key; expected 64 hex digits"),
    ],
)
def test_imported_names_are_those_a_matrix_can_have(
    h200: Path, old: str, new: str, said: str
) -> None:
    assert records.read(h200).name == "gpu"
    sweep = h200 / "sweep.json"
    whole = sweep.read_text()
    assert old in whole.replace('"reference": 2', "")
    sweep.write_text(whole.replace(old, new))
    with pytest.raises(InputError, match=re.escape(said)) as error:
        records.read(h200)
    assert error.value.where == str(sweep)


def test_an_imported_failure_is_the_one_that_its_file_names(h200: Path) -> None:
    sweep = records.read(h200)
    failure = Failure("build", sweep.cells[0].steps["build"], "x", "why")
    place = h200 / "store" / "failed" / f"{failure.key}.json"
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps(asdict(failure)))
    records.read(h200)
    for wrong in ({"key": "../../esc"}, {"stage": "check"}, {"reason": 3}):
        place.write_text(json.dumps(asdict(failure) | wrong))
        with pytest.raises(InputError, match=r"foreign|expected str") as error:
            records.read(h200)
        assert error.value.where == str(place)


def test_imported_files_have_their_digests(h200: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    sweep = records.read(h200)
    assert records.take_in(sweep, h200, store) > 0
    assert records.take_in(sweep, h200, store) == 0
    assert not any(store.account(ref) or store.failure(ref.key) for ref in sweep.refs)
    records.save(sweep, store, tmp_path / "records.tar.gz")
    folder = records.opened(tmp_path / "records.tar.gz", tmp_path)
    assert records.read(folder).cells == sweep.cells

    def told(path: Path, data: bytes | None) -> str:
        good = path.read_bytes() if path.exists() else None
        path.unlink() if data is None else path.write_bytes(data)
        with pytest.raises(InputError) as error:
            records.read(folder)
        path.unlink() if good is None else path.write_bytes(good)
        records.read(folder)
        assert error.value.where == str(path)
        return error.value.message

    record = next((folder / "store" / "measure").glob("*/*/record.json"))
    found = json.loads(record.read_text())
    found["figures"]["latency_p50_ms"] = 0.001
    assert "changed: its sha256" in told(record, json.dumps(found).encode())
    pairs = next((folder / "store" / "verify").glob("*/*/pairs.npz"))
    assert "changed: its sha256" in told(pairs, pairs.read_bytes()[:-1] + b"x")
    assert "missing" in told(record, None)
    assert "foreign" in told(record.with_name("more.bin"), b"x")


def test_pairs_that_cannot_be_read_are_refused(h200: Path, tmp_path: Path, farm: Farm) -> None:
    for pairs in (h200 / "store" / "verify").glob("*/*/pairs.npz"):
        pairs.write_bytes(pairs.read_bytes()[:-30] + 30 * b"x")
    done = farm("import", h200, "--results", tmp_path / "r", "--no-mlflow")
    assert done.returncode == 2 and "pairs.npz: torn" in done.stderr, done.stderr
    assert not (tmp_path / "r").exists()


def test_the_committed_records_of_a_gpu_can_be_imported(tmp_path: Path, farm: Farm) -> None:
    words = ("import", PROJECT / "results/records/h200", "--results", tmp_path, "--no-mlflow")
    done = farm(*words)
    assert done.returncode == 0, done.stderr
    rows = pd.read_parquet(tmp_path / "leaderboard")
    assert rows.status.value_counts().to_dict() == {"pending": 31, "failed": 5, "ok": 4}
    good = rows[rows.status == "ok"]
    assert set(good.precision) == {"fp32"} and (good.matched_fraction == 1).all()
    assert good.max_score_diff.max() < 1e-4 and set(good.device) == {rows.device.iloc[0]}
    assert "NVIDIA H200" in rows.device.iloc[0]
