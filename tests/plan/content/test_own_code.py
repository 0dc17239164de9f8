"""Models whose loading runs their users' code leave nothing behind for the next one."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import PROJECT

from farm import specs
from farm.cli.progress import Progress
from farm.config.loader import load_matrix
from farm.engine.estimates import Estimates
from farm.engine.executors import Choices, starter
from farm.engine.remaining import TimeLeft
from farm.engine.scheduler import run_steps
from farm.engine.workers.limits import Limits
from farm.plan import Plan
from farm.plan.content.configs import config_file
from farm.plan.content.own_code import runs_own_code
from farm.store import Store
from farm.sweep import checked_plan

DEMO = PROJECT / "matrices" / "demo"
NECK = """\
from mmdet.models.builder import NECKS
from mmdet.models.necks import FPN
@NECKS.register_module(force=True)
class OwnNeck(FPN):
    def forward(self, x):
        return tuple({scale} * one for one in super().forward(x))
"""
CONFIG = """\
_base_ = {base!r}
import sys
sys.path.append('{{{{ fileDirname }}}}')
del sys
custom_imports = dict(imports=['ownneck'])
model = dict(neck=dict(type='OwnNeck'))
"""
MATRIX = """\
name: own
models:
  a: {{config: a/c.py, checkpoint: {demo}/onestage.pth}}
  b: {{config: b/c.py, checkpoint: {demo}/onestage.pth}}
  plain: {{config: {demo}/onestage.py, checkpoint: {demo}/onestage.pth}}
opsets: [17]
shapes: {{fixed: {{opt: 160x160}}}}
runtimes: [torch, onnxruntime]
dataset: {{type: synthetic, count: 4}}
"""


def model_of(folder: Path, text: str, **values: object) -> specs.Model:
    (folder / "c.py").write_text(text)
    config, checkpoint = config_file("c.py", folder), specs.File("c.pth", "")
    return specs.Model("m", "mmdet", config, checkpoint)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "a = dict(b=[1, 2] * 3)\nb = a['b'][0] if a else None\nx = [i for i in range(3)]\n",
            False,
        ),
        ("import os\n", True),
        ("x = __import__('os')\n", True),
        ("x = sorted(['1'], key=exec)\n", True),
        ("x = __builtins__['exec']\n", True),
        ("x = ().__class__\n", True),
        ("def f(): ...\n", True),
    ],
)
def test_a_config_of_values_alone_runs_no_code(tmp_path: Path, text: str, expected: bool) -> None:
    assert runs_own_code(model_of(tmp_path, text), None) is expected
    (tmp_path / "base.py").write_text(text)
    assert runs_own_code(model_of(tmp_path, "_base_ = './base.py'\n"), None) is expected


def test_what_check_saw_is_code_but_for_files_that_the_farm_looked_for(tmp_path: Path) -> None:
    model = model_of(tmp_path, "custom_imports = dict(imports=['own'])\n")
    sought = specs.Used("sought", "classes.txt", "missing", "here")
    module = specs.Used("module", "own", "abc", "own.py")
    for used, expected in (((), False), ((sought,), False), ((sought, module), True)):
        facts = specs.ModelFacts((), False, "", used=used)
        assert runs_own_code(model, facts) is expected


def test_a_checkpoint_that_may_hold_any_pickle_is_code(tmp_path: Path) -> None:
    model = replace(model_of(tmp_path, "a = 1\n"), allow_pickle=True)
    assert runs_own_code(model, None)


@pytest.mark.slow
def test_models_with_modules_of_one_name_are_each_their_own(tmp_path: Path) -> None:
    """Also where their configs and checkpoints are equal, and with a plain one after them."""
    for name, scale in (("a", 0.5), ("b", 1.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ownneck.py").write_text(NECK.format(scale=scale))
        (tmp_path / name / "c.py").write_text(CONFIG.format(base=str(DEMO / "onestage.py")))
    (tmp_path / "m.yaml").write_text(MATRIX.format(demo=DEMO))
    matrix, store = load_matrix(tmp_path / "m.yaml"), Store(tmp_path / "store")
    with ExitStack() as stack:
        start = starter(store, Choices(executor="inline"), Limits(), stack)
        plan = checked_plan(matrix, store, start, retry_failed=False)
        _require_apart(plan)
        steps = {
            s.key: s for s in plan.steps.values() if s.stage in ("check", "prepare", "reference")
        }
        outcomes = run_steps(steps, store, start, Progress([], TimeLeft([], Estimates(), 1)))
    assert {one.status for one in outcomes.values()} == {"done"}
    kept = {step.label: store.record(step.ref) for step in plan.of_stage("reference")}
    found = {label.split()[0]: record.figures["box_ap"] for label, record in kept.items() if record}
    assert found["a"] != found["b"] == found["plain"] > 0.4


def _require_apart(plan: Plan) -> None:
    apart = {
        (step.label.split()[0].split(".")[0], step.stage)
        for step in plan.steps.values()
        if step.needs.own_process
    }
    loading = {"check", "reference", "export", "verify", "evaluate", "measure"}
    assert apart == {*((name, stage) for name in "ab" for stage in loading), ("plain", "check")}
    engines = [s for s in plan.steps.values() if "onnxruntime" in s.label and s.stage != "check"]
    assert not any(step.needs.own_process for step in engines)
