"""tools/setup.py names what is missing before minutes are lost; a second run returns at once."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tools" / "setup.py"


@pytest.fixture(scope="module")
def setup() -> ModuleType:
    spec = importlib.util.spec_from_file_location("farm_setup", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(venv: Path, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    """tools/setup.py itself, with `venv` for its folder and no CXX of the caller's."""
    variables = {name: value for name, value in os.environ.items() if name != "CXX"}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *options],
        env={**variables, "VENV": str(venv), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_missing_compiler_is_named_with_the_way_to_get_it(tmp_path: Path) -> None:
    done = run(tmp_path / "venv", "--check", PATH=str(tmp_path))
    assert done.returncode == 2
    assert "C++ compiler" in done.stderr
    assert "apt-get install g++" in done.stderr


def test_nothing_is_made_where_something_is_missing(tmp_path: Path) -> None:
    assert run(tmp_path / "venv", PATH=str(tmp_path)).returncode == 2
    assert not (tmp_path / "venv").exists()


def test_an_old_python_is_named_with_the_one_that_is_needed(
    setup: ModuleType, tmp_path: Path
) -> None:
    (text,) = [text for text in setup.missing(tmp_path, version=(3, 9)) if "newer" in text]
    assert "Python 3.10 or newer; this is 3.9" in text
    assert "make setup PYTHON=" in text


def test_a_folder_that_is_no_environment_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    done = run(tmp_path)
    assert done.returncode == 2
    assert "is no virtual environment" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def stamped(setup: ModuleType, venv: Path) -> Path:
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    setup.stamp(venv).write_text(setup.digest(setup.wanted_extras()) + "\n")
    return venv


def test_a_second_run_returns_at_once(setup: ModuleType, tmp_path: Path) -> None:
    venv = stamped(setup, tmp_path / "venv")
    done = run(venv, PATH=str(tmp_path))  # without a compiler: nothing is checked or built
    assert done.returncode == 0
    assert "is up to date" in done.stdout
    assert not (venv / setup.LOG).exists()


def test_other_extras_or_an_interpreter_that_is_gone_make_it_run_again(
    setup: ModuleType, tmp_path: Path
) -> None:
    venv = stamped(setup, tmp_path / "venv")
    assert setup.is_made(venv, setup.wanted_extras())
    assert not setup.is_made(venv, "mmdet")
    (venv / "bin" / "python").unlink()
    assert not setup.is_made(venv, setup.wanted_extras())


def test_only_half_installed_packages_are_forgotten(setup: ModuleType, tmp_path: Path) -> None:
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    for name in ("whole-1.0.dist-info", "torn-1.0.dist-info", "~orn-0.9.dist-info"):
        (site / name).mkdir(parents=True)
    (site / "whole-1.0.dist-info" / "RECORD").touch()
    setup.Environment(tmp_path).forget_torn_packages()
    assert [path.name for path in site.iterdir()] == ["whole-1.0.dist-info"]


def test_onnxruntime_and_its_gpu_package_are_told_apart(setup: ModuleType, tmp_path: Path) -> None:
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    (site / "onnxruntime_gpu-1.31.1.dist-info").mkdir(parents=True)
    env = setup.Environment(tmp_path)
    assert env.installed("onnxruntime-gpu")
    assert not env.installed("onnxruntime")
