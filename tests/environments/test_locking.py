"""What an environment asks for, and how that becomes the exact release of every package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import wheels
from conftest import PROJECT

from farm.environments import EnvironmentFailed, locking
from farm.environments.locking import locked, package_of, python_version, with_needed
from farm.specs import Environment

DEMO = Environment("demo@1", ("farmdemo==1.*",), python_version())


def test_what_steps_need_is_what_the_project_needs() -> None:
    text = (PROJECT / "pyproject.toml").read_text()
    dependencies = re.findall(r'^    "(.+?)",', text.partition("dependencies = [")[2], re.M)
    assert set(locking.WORKER) <= set(dependencies)


def test_requirements_are_completed_by_what_is_not_among_them() -> None:
    plain = with_needed(("openvino==2025.2.*",), ("openvino",))
    assert plain == ("openvino==2025.2.*", *locking.WORKER)
    assert with_needed(("NumPy<2",), ("openvino",))[:2] == ("NumPy<2", "openvino")
    assert not any(one.startswith("numpy") for one in with_needed(("NumPy<2",), ()))
    assert with_needed((), ("openvino", "pycocotools")) == ("openvino", *locking.WORKER)
    gpu = with_needed(("onnxruntime_gpu[cuda]==1.20.*", "opencv-python"), ("onnxruntime",))
    assert [package_of(one) for one in gpu if one.startswith(("onnxruntime", "opencv"))] == [
        "onnxruntime-gpu", "opencv-python",
    ]  # fmt: skip


def test_a_lock_has_the_newest_release_that_fits_and_stays(index: Path) -> None:
    assert locked(DEMO, resolve=False) is None
    found = locked(DEMO)
    assert found and found.lock == "farmdemo==1.1\n"
    wheels.add(index, "farmdemo", "1.2")
    assert locked(DEMO) == found == locked(DEMO, resolve=False)
    renamed = locked(Environment("other@1", DEMO.requirements, DEMO.python))
    assert renamed and renamed.digest == found.digest and renamed.name == "other@1"


def test_a_lock_prefers_what_is_installed_here(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking, "_installed", lambda: [("farmdemo", "1.0"), ("unasked", "3")])
    found = locked(DEMO)
    assert found and found.lock == "farmdemo==1.0\n"


def test_what_is_installed_here_is_listed_without_editable_packages() -> None:
    found = dict(locking._installed())
    assert found["pytest"] and "farm" not in found


def test_a_release_that_is_nowhere_is_named(index: Path) -> None:
    with pytest.raises(
        EnvironmentFailed, match=r"^Because .*farmdemo.*you require farmdemo==3"
    ) as e:
        locked(Environment("demo@3", ("farmdemo==3.*",), python_version()))
    assert "\n" not in str(e.value)
    wheels.add(index, "asks", "1.0", needs=("farmdemo==2.0",))
    with pytest.raises(EnvironmentFailed, match=r"^Because all versions of asks depend on farm"):
        locked(Environment("asks@1", ("asks==1.0", "farmdemo==1.0"), python_version()))


def test_a_cache_that_cannot_be_written_costs_the_time_alone(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FARM_ENVIRONMENTS", str(tmp_path / "file"))
    found = locked(DEMO)
    assert found and found.lock == "farmdemo==1.1\n"


def test_locks_differ_by_what_is_asked_for(index: Path) -> None:
    others = [
        Environment("a", ("farmdemo==1.1",), DEMO.python),
        Environment("b", DEMO.requirements, f"{DEMO.python}.0"),
    ]
    places = {locking._place(one) for one in [DEMO, *others]}
    assert len(places) == 3
    reversed_ = Environment("c", ("b", "a"), "3.11"), Environment("d", ("a", "b"), "3.11")
    assert locking._place(reversed_[0]) == locking._place(reversed_[1])


def test_what_is_installed_from_elsewhere_is_not_taken_from_an_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "farmown-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: farmown\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    names = ("farmown", "pytest", "nonesuch")
    assert with_needed((), names)[:3] == names and "farmown" in dict(locking._installed())
    (info / "direct_url.json").write_text('{"url": "file:///somewhere", "dir_info": {}}')
    assert with_needed((), names)[:2] == names[1:]
    assert "farmown" not in dict(locking._installed())
