"""`farm models`: whatever ends the code of one model or runtime, it costs its own trials only."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PROJECT
from test_deaths import CODE
from test_extensions import install

from farm.models.records import Record, Records

pytestmark = pytest.mark.slow

RUNTIMES = """
class Dying:
    def __init__(self, how): self.how = how
    def build(self, onnx, folder, options): (folder / "model").write_bytes(onnx.read_bytes())
    def open_engine(self, folder, options, threads): die(self.how)


def dying(name, how):
    return Runtime(name=name, short=name, packages=("onnxruntime",), engines=lambda: Dying(how))


EXITS, CRASHES = dying("exits", "exit at once"), dying("crashes", "segfault")
HANGS, EATS = dying("hangs", "hang"), dying("eats", "memory")
KILLED = dying("killed", "kill")
"""
POINTS = """\
[farm.runtimes]
exits = other:EXITS
crashes = other:CRASHES
hangs = other:HANGS
eats = other:EATS
killed = other:KILLED
"""
MODELS = """\
import sys
from farm.cli.main import main
from farm.engine.workers import limits

limits.DEFAULT_SECONDS = {**limits.DEFAULT_SECONDS, "table.trial": 8.0}
limits.Limit.most_bytes = property(lambda _: 1 << 30)
main()
"""
REASONS = {
    "exits": r"its code ended the process with exit code 3; its log ends with: these are my last w",
    "crashes": r"its code ended by signal 11 \(Segmentation fault\)$",
    "hangs": r"it did not finish within 8\.0s$",
    "eats": r"it used more than 1GiB of memory$",
    "killed": r"its process was killed by signal 9 \(Killed\)",
}


def models(
    folder: Path, families: dict[str, object], *words: str, code: str = MODELS
) -> subprocess.Popen[str]:
    (folder / "families.yaml").write_text(json.dumps(families))
    (folder / "tmp").mkdir()
    site = install(folder / "site", CODE + RUNTIMES, POINTS)
    asked = ("--families", "families.yaml", "--records", "r.jsonl", "--opset", "17")
    return subprocess.Popen(
        [sys.executable, "-c", code, "models", *asked, "--shapes", "fixed", *words],
        env={**os.environ, "PYTHONPATH": f"{PROJECT}{os.pathsep}{site}", "TMPDIR": f"{folder}/tmp"},
        cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def narrow() -> dict[str, object]:
    from farm.config import yaml_values

    text = (PROJECT / "tests" / "models" / "narrow.yaml").read_text()
    entries, _ = yaml_values.read(text, str)
    return {**entries["_defaults"], **entries["retinanet"]}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Record]:
    """The records of a model whose config ends its process and of a good one."""
    folder = tmp_path_factory.mktemp("deaths")
    (folder / "bad.py").write_text("import os\nprint('bye', flush=True)\nos._exit(3)\n")
    families = {"bad": {"config": "bad.py"}, "good": narrow()}
    words = [word for name in (*REASONS, "openvino") for word in ("--runtime", name)]
    process = models(folder, families, *words)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 1 and "Traceback" not in err, err
    assert "bad   0/6" in out and "good  1/6 same detector" in out
    assert list((folder / "tmp").iterdir()) == []
    return {(one.family, one.runtime): one for one in Records(folder / "r.jsonl")}


@pytest.mark.parametrize("runtime", REASONS)
def test_a_runtime_that_dies_costs_its_own_trial(
    found: dict[tuple[str, str], Record], runtime: str
) -> None:
    record = found["good", runtime]
    assert re.match(f"cannot be run: {REASONS[runtime]}", str(record.reason)), record
    assert record.nodes > 100 and not record.refused
    assert record.temporary == (runtime == "killed")


def test_a_config_that_ends_its_process_costs_its_models_trials(
    found: dict[tuple[str, str], Record],
) -> None:
    reason = "cannot be tried: its code ended the process with exit code 3; its log ends with: bye"
    assert {found["bad", name].reason for name in REASONS} == {reason}


def test_a_good_trial_beside_them_ends_well(found: dict[tuple[str, str], Record]) -> None:
    record = found["good", "openvino"]
    assert record.reason is None and record.boxes > 20


WAITS = """
import pathlib, time
first, second = (pathlib.Path({folder!r}, name) for name in ("first", "second"))
if first.exists():
    second.touch()
    while True: time.sleep(1)
first.touch()
"""


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    """While a step of the model's trials runs, after its config was looked at."""
    (tmp_path / "waits.py").write_text(WAITS.format(folder=str(tmp_path)))
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from farm.__main__ import main; main()"
    )
    families = {"waits": {"config": "waits.py"}}
    process = models(tmp_path, families, "--runtime", "openvino", code=code)
    until = time.monotonic() + 120
    while not (tmp_path / "second").exists():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err.endswith("farm: interrupted\n")
    assert "Traceback" not in err and list((tmp_path / "tmp").iterdir()) == []
    assert list(Records(tmp_path / "r.jsonl")) == []
