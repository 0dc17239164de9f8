"""Each way in which a step's process can end, in each stage that runs code of other people's, with
a good model beside it: only the cells of the others fail, and say why."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from conftest import PROJECT
from test_extensions import farm, install

pytestmark = pytest.mark.slow  # some three hundred steps

CODE = """\
import ctypes, inspect, os, signal, sys, time
from typing import Annotated, Literal

from farm.config.models import OwnFormSpec
from farm.options import InputFile, Text
from farm.parts import Source
from farm.runtimes.base import Runtime


def die(how):
    print("these are my last words", flush=True)
    if how == "exit": sys.exit(0)
    if how == "exit at once": os._exit(3)
    if how == "abort": os.abort()
    if how == "segfault": ctypes.string_at(0)
    if how == "hang": time.sleep(600)
    if how == "memory":
        kept = []
        while True: kept.append(bytearray(50_000_000))
    if how == "kill": os.kill(os.getpid(), signal.SIGKILL)
    if how == "interrupt": raise KeyboardInterrupt


class MortalSpec(OwnFormSpec):
    source: Literal["mortal"]
    network: Annotated[Text, InputFile("network")]
    stage: Text
    how: Text


class Mortal:
    def check(self, model):
        from farm.sources import onnx

        self.die(model, "check")
        return onnx.check(self.ready(model))

    def load(self, model):
        from farm.sources import onnx

        self.model = model
        return onnx.load(self.ready(model))

    def set_threads(self, threads):
        pass

    def export_onnx(self, detector, shape, opset, path, postprocess="graph"):
        import onnx as library
        from farm.sources import onnx

        self.die(self.model, "export")
        onnx.export_onnx(detector, shape, opset, path, postprocess)
        proto = library.load(path)
        options = dict(self.model.options)
        library.helper.set_model_props(proto, {"stage": options["stage"], "how": options["how"]})
        library.save(proto, path)

    def die(self, model, stage):
        options = dict(model.options)
        if options["stage"] == stage:
            die(options["how"])

    def ready(self, model):
        from farm import specs

        file = dict(model.options)["network"]
        return specs.OnnxModel(
            model.name, file, model.outputs, model.classes, model.preprocess, model.clip_boxes
        )


class Engines:
    def build(self, onnx, folder, options):
        self.die(onnx, "build")
        (folder / "model.mortal").write_bytes(onnx.read_bytes())

    def open_engine(self, folder, options, threads):
        from onnxruntime import InferenceSession

        if any(frame.filename.endswith("stages/measure.py") for frame in inspect.stack()):
            self.die(folder / "model.mortal", "measure")
        return Session(InferenceSession((folder / "model.mortal").read_bytes()))

    def die(self, file, stage):
        import onnx as library

        props = {one.key: one.value for one in library.load(file).metadata_props}
        if props["stage"] == stage:
            die(props["how"])


class Session:
    def __init__(self, session):
        self.session, self.names = session, [one.name for one in session.get_outputs()]

    def run(self, images):
        name = self.session.get_inputs()[0].name
        return dict(zip(self.names, self.session.run(self.names, {name: images})))

    def close(self):
        self.session = None


SOURCE = Source(
    name="mortal", packages=("onnx", "onnxruntime"), adapter=Mortal, spec=MortalSpec,
    opsets=False, eager=False,
)
RUNTIME = Runtime(name="mortal", short="MOR", packages=("onnxruntime",), engines=Engines)
"""
POINTS = "[farm.sources]\nmortal = other:SOURCE\n[farm.runtimes]\nmortal = other:RUNTIME\n"
MODEL = """\
  {name}:
    source: mortal
    network: peaks.onnx
    stage: {stage}
    how: {how}
    classes: [circle, square, triangle, star]
    preprocess: {{mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, 57.375], pad: 32}}
"""
MATRIX = """\
name: deaths
models:
{models}
shapes: {{fixed: {{opt: 160x160}}}}
runtimes: [mortal]
dataset: {{type: synthetic, count: 2, seed: 7, size: 160}}
measure: {{seconds: 0.05, warmup_seconds: 0, min_samples: 10}}
compare: false
verify: {{images: 1}}
limits: {{check: 12s, export: 12s, build: 12s, measure: 12s, memory: 1GiB}}
"""
STAGES = ("check", "export", "build", "measure")
ENDS = {
    "exit": ("crash", "its code raised SystemExit: 0"),
    "exit at once": (
        "crash",
        "its code ended the process with exit code 3; its log ends with: these are my last words",
    ),
    "abort": ("crash", r"its code ended by signal 6 \(Aborted\)"),
    "segfault": ("crash", r"its code ended by signal 11 \(Segmentation fault\)"),
    "hang": ("timeout", r"it did not finish within 12\.0s; `limits: {\w+: TIME}` in the matrix"),
    "memory": ("oom", r"out of memory \(MemoryError\)|it used more than 1GiB of memory"),
    "kill": ("crash", r"its process was killed by signal 9 \(Killed\)"),
    "interrupt": ("crash", "its code raised KeyboardInterrupt"),
}
"""The class and the reason of each way to die."""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The rows of all cells, by model."""
    folder = tmp_path_factory.mktemp("deaths")
    wanted = {"good": ("none", "none")}
    wanted |= {name_of(stage, how): (stage, how) for stage in STAGES for how in ENDS}
    models = (
        MODEL.format(name=name, stage=stage, how=how) for name, (stage, how) in wanted.items()
    )
    (folder / "m.yaml").write_text(MATRIX.format(models="".join(models)))
    peaks = PROJECT / "matrices" / "sources" / "peaks.onnx"
    (folder / "peaks.onnx").write_bytes(peaks.read_bytes())
    site = install(folder / "site", CODE, POINTS)
    words = ("run", "m.yaml", "--executor", "inline", "--no-mlflow", "--results", "r")
    done = farm(*words, site=site, cwd=folder)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stdout + done.stderr
    assert f"{len(wanted)} cells, {len(wanted) - 1} failed" in done.stderr
    assert list((folder / "r" / "store" / "tmp").iterdir()) == []
    assert list((folder / "r" / "store" / "claims").iterdir()) == []
    told = farm("leaderboard", "--results", "r", "--format", "json", site=site, cwd=folder)
    return {row["model"]: row for row in json.loads(told.stdout)} | {
        "folder": {"path": folder, "site": site}
    }


def name_of(stage: str, how: str) -> str:
    return f"{stage}-{how.replace(' ', '-')}"


def test_a_good_model_beside_them_ends_well(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["good"]["status"] == "ok" and rows["good"]["latency_p50_ms"] > 0


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("stage", STAGES)
def test_whatever_ends_a_step_fails_its_own_cell_with_the_reason(
    rows: dict[str, dict[str, Any]], stage: str, how: str
) -> None:
    row, (kind, reason) = rows[name_of(stage, how)], ENDS[how]
    assert (row["status"], row["failed_stage"]) == ("failed", stage)
    assert re.match(reason, row["reason"]), row["reason"]
    assert row["failure_class"] == kind


def test_the_log_of_each_step_that_died_is_kept(rows: dict[str, dict[str, Any]]) -> None:
    logs = (rows["folder"]["path"] / "r" / "store" / "failed").glob("*.log")
    texts = [log.read_text(errors="replace") for log in logs]
    assert len(texts) == len(STAGES) * len(ENDS)
    assert all(text.startswith("these are my last words") for text in texts), texts


def test_a_cell_is_reproduced_within_the_limits_of_its_matrix(
    rows: dict[str, dict[str, Any]],
) -> None:
    folder, cell = rows["folder"], rows["build-hang"]["cell"]
    done = farm("reproduce", cell, "--results", "r", site=folder["site"], cwd=folder["path"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed at build: it did not finish within 12.0s" in done.stdout
