"""The check of a model as planned, whether a model runs code of its user's, and GPU targets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from farm import catalog, specs
from farm.errors import InputError
from farm.plan.checks import check_model, checked_by
from farm.plan.content import dependencies
from farm.plan.content.own_code import runs_own_code
from farm.plan.machines import placement
from farm.plan.steps import Needs
from farm.specs import CheckInputs, File, Gpu, ModelFacts, ShapesDataset, Target, Used

FACTS = ModelFacts(("a",), False, "[]")
DRAWN = ShapesDataset(1, 2, 64)


def model(folder: Path, text: str = "x = 1\n", name: str = "c.py") -> specs.Model:
    (folder / name).write_text(text)
    return specs.Model("m", "mmdet", File(str(folder / name), "d"), File("c.pth", "d"))


def test_a_check_has_its_sources_and_its_data_sets_packages(tmp_path: Path) -> None:
    own = model(tmp_path)
    with_images = check_model(own, CheckInputs(own, DRAWN), lambda key: None)
    alone = check_model(own, CheckInputs(own, None), lambda key: None)
    source = set(catalog.SOURCES["mmdet"].packages)
    assert set(dict(alone.step.toolchain)) == source
    assert set(dict(with_images.step.toolchain)) == source | set(
        catalog.DATASETS["synthetic"].packages
    )
    for found in (alone, with_images):
        assert (found.step.stage, found.step.label, found.facts) == ("check", "m", None)
        assert (
            found.step.needs == Needs(own_process=True)
            and found.model == own
            and not found.own_code
        )


def test_a_check_is_planned_anew_where_what_it_saw_has_changed(tmp_path: Path) -> None:
    own = model(tmp_path)
    (tmp_path / "seen.txt").write_text("one")
    places = dependencies.where(own)
    seen = Used("file", "", dependencies.now(Used("file", "", "", "seen.txt"), places), "seen.txt")
    facts = replace(FACTS, used=(seen,))
    known: dict[str, ModelFacts] = {}
    first = check_model(own, CheckInputs(own, None), known.get)
    known[first.step.key] = facts
    again = check_model(own, CheckInputs(own, None), known.get)
    assert again.step == first.step and again.facts == facts and again.own_code
    assert isinstance(again.model, specs.Model)
    assert again.model.used == dependencies.as_key((seen,)) != ""
    (tmp_path / "seen.txt").write_text("another")
    changed = check_model(own, CheckInputs(own, None), known.get)
    assert changed.step.key != first.step.key and changed.facts is None
    assert changed.step.inputs == CheckInputs(
        own, None, used=(dependencies.state((seen,), places),)
    )
    known[changed.step.key] = FACTS
    assert check_model(own, CheckInputs(own, None), known.get).facts == FACTS
    (tmp_path / "seen.txt").write_text("one")
    assert check_model(own, CheckInputs(own, None), known.get).step == first.step


def test_only_models_that_run_code_are_loaded_in_a_process_of_their_own(tmp_path: Path) -> None:
    plain, file = model(tmp_path), specs.OnnxModel("o", File("f", "d"))
    step = check_model(plain, CheckInputs(plain, None), lambda key: None).step
    bare = replace(step, needs=Needs(cpus=3))
    assert checked_by(plain, step, FACTS).loading(bare) is bare
    trusting = replace(plain, allow_pickle=True)
    assert checked_by(trusting, step, FACTS).loading(bare).needs == Needs(cpus=3, own_process=True)
    used = replace(FACTS, used=(Used("module", "m", "d"),))
    assert checked_by(file, step, used).model is file
    assert not checked_by(file, step, used).own_code


@pytest.mark.parametrize(
    ("text", "name", "runs"),
    [
        ("import os", "c.py", True),
        ("x = 1", "c.py", False),
        ("x = dict(a=len('b'))", "c.py", False),
        ("x = open('f')", "c.py", True),
        ("x = dict().clear", "c.py", True),
        ("x = eval", "c.py", True),
        ("x = (lambda: 1)", "c.py", True),
        ("class C: ...", "c.py", True),
        ("from a import b", "c.py", True),
        ("x = f()", "c.py", True),
        ("x = dict(a=1)()", "c.py", True),
        ("x = __file__", "c.py", False),
        ("x = {", "c.py", True),
        ("_base_ = './gone.py'", "c.py", True),
        ("import os", "c.json", False),
        ("x = sorted(zip([1], {2}))", "c.py", False),
    ],
)
def test_a_config_that_is_more_than_values_is_code(
    text: str, name: str, runs: bool, tmp_path: Path
) -> None:
    assert runs_own_code(model(tmp_path, text, name), None) is runs


def test_code_is_in_what_a_model_is_made_of(tmp_path: Path) -> None:
    own = model(tmp_path)
    gone = replace(own, config=File(str(tmp_path / "gone.py"), "d"))
    assert runs_own_code(gone, None) is False
    sought, opened = Used("sought", "f", "d"), Used("file", "", "d", "f")
    assert runs_own_code(own, replace(FACTS, used=(sought,))) is False
    assert runs_own_code(own, replace(FACTS, used=(sought, opened))) is True
    assert runs_own_code(own, FACTS) is False
    function = specs.ModuleModel("m", "a:b", str(tmp_path), File("a.py", "d"))
    assert runs_own_code(function, None) is True
    assert runs_own_code(specs.OtherModel("m", "other", str(tmp_path)), None) is False
    (tmp_path / "c.py").write_text("_base_ = './base.py'")
    (tmp_path / "base.py").write_text("import os")
    assert runs_own_code(own, None) is True


HERE = Gpu("NVIDIA L4", "8.9", "580.95.05")


@pytest.mark.parametrize(
    ("said", "gpus", "found"),
    [
        ({}, (HERE,), ("L4", "8.9", "580")),
        ({"driver": "570"}, (HERE,), ("L4", "8.9", "570")),
        ({"driver": "570.1.2"}, (), ("L4", "8.9", "570")),
        ({"compute_capability": "9.9"}, (HERE,), ("L4", "9.9", "580")),
        ({"device": "NVIDIA L4"}, (HERE,), ("NVIDIA L4", "8.9", "580")),
        ({"device": "NVIDIA L4 X", "driver": "1"}, (HERE,), ("NVIDIA L4 X", "8.9", "1")),
        ({"device": "NVIDIA L4 X"}, (HERE,), "its branch, as nvidia-smi on its nodes shows it"),
        ({}, (), "the driver of target 't' is not known: this machine has no L4 to ask"),
        ({}, (Gpu("NVIDIA A10", "8.6", "1.2"), HERE), ("L4", "8.9", "580")),
    ],
)
def test_what_is_not_said_of_a_target_is_this_machines(
    said: dict[str, str], gpus: Any, found: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "gpus", lambda: gpus)
    if isinstance(found, str):
        with pytest.raises(InputError, match=found):
            placement.target("t", "L4", **said)
        return
    device, capability, driver = found
    assert placement.target("t", "L4", **said) == Target("t", device, "L4", capability, driver)


def test_an_accelerator_that_nobody_knows_needs_its_capability(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(placement, "gpus", lambda: (Gpu("NVIDIA Z9", "20.0", "600.1"),))
    assert placement.target("t", "Z9") == Target("t", "Z9", "Z9", "20.0", "600")
    with pytest.raises(InputError, match="accelerator 'H10' is not known; did you mean 'H100'"):
        placement.target("t", "H10", driver="1")
    assert placement.target("t", "H10", None, "9.0", "1") == Target("t", "H10", "H10", "9.0", "1")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("NVIDIA H200", "H200"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("NVIDIA RTX A6000", "RTX-A6000"),
        ("NVIDIA GeForce RTX 4090", "GeForce-RTX-4090"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA", "NVIDIA"),
        ("Own", "Own"),
        ("NVIDIA  Some thing", "Some-thing"),
        ("", ""),
        ("NVIDIA 5", "5"),
        ("NVIDIA L4", "L4"),
    ],
)
def test_a_gpu_is_called_as_ray_calls_it(name: str, kind: str) -> None:
    assert placement.accelerator(name) == kind
