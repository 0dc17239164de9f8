"""`farm doctor` tells what this machine can run, and how to get what it lacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import PROJECT

from farm import doctor
from farm.catalog import RUNTIMES, SOURCES
from farm.runtimes.base import Finding


@pytest.fixture(scope="module")
def findings() -> list[Finding]:
    return doctor.report()


@pytest.fixture(scope="module")
def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


@pytest.mark.slow
def test_here_a_sweep_can_run(findings: list[Finding]) -> None:
    assert doctor.can_sweep(findings)


@pytest.mark.slow
def test_versions_are_those_that_are_installed(by_name: dict[str, Finding]) -> None:
    for name in ("mmcv-full", "mmdet", "onnx", "ray", "mlflow"):
        assert by_name[name].found.startswith(version(name))


@pytest.mark.slow
def test_mmcv_is_called_working_only_after_an_operator_ran(by_name: dict[str, Finding]) -> None:
    assert by_name["mmcv-full"].status == "ok"
    assert "compiled operators work" in by_name["mmcv-full"].found


@pytest.mark.slow
def test_whatever_is_missing_says_how_to_get_it(findings: list[Finding]) -> None:
    assert all(finding.how for finding in findings if finding.status == "missing")


@pytest.mark.slow
def test_every_line_of_a_real_report_fits_80_columns(findings: list[Finding]) -> None:
    lines = "\n".join(doctor.lines(finding) for finding in findings).splitlines()
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    "how", [*doctor.HOW.values(), *(one.install for one in RUNTIMES.values() if one.install)]
)
def test_every_way_to_get_something_fits_80_columns_and_keeps_its_words(how: str) -> None:
    lines = doctor.lines(Finding("onnxruntime", "missing", "x " * 100, how)).splitlines()
    assert max(map(len, lines)) <= 80
    assert how.split() == " ".join(lines).partition("-> ")[2].split()


@pytest.mark.parametrize("lacking", doctor.NEEDED)
def test_a_sweep_cannot_run_without(lacking: str) -> None:
    names = {*doctor.NEEDED, *doctor.cpu_runtimes(), *SOURCES["mmdet"].packages} - {lacking}
    assert not doctor.can_sweep([Finding(name, "ok", "") for name in names])


def test_one_runtime_is_enough_and_none_is_not() -> None:
    needed = [Finding(name, "ok", "") for name in (*doctor.NEEDED, *SOURCES["mmdet"].packages)]
    assert doctor.can_sweep([*needed, Finding("openvino", "warning", "")])
    assert not doctor.can_sweep([*needed, Finding("openvino", "missing", "")])


@pytest.mark.parametrize(
    ("works", "sources"),
    [
        (["onnxruntime"], ["onnx"]),
        (["openvino"], []),
        (["torch", "openvino"], ["module"]),
        (["torch", "onnxruntime"], ["module", "onnx"]),
        (["torch", "mmcv-full", "mmdet", "onnxruntime"], ["mmdet", "module", "onnx"]),
    ],
)
def test_each_source_has_needs_of_its_own(works: list[str], sources: list[str]) -> None:
    findings = [Finding(name, "ok", "") for name in (*doctor.NEEDED, *works)]
    assert doctor.sources(findings) == sources
    said = doctor.verdict(findings)
    assert ("cannot run here" in said) == (not sources)
    assert ("need what is missing" in said) == (0 < len(sources) < len(SOURCES))
    assert max(map(len, said.splitlines())) <= 80


def test_a_library_that_crashes_is_shown_with_its_signal() -> None:
    child = subprocess.run(
        [sys.executable, "-c", "import os; os.kill(os.getpid(), 11)"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert doctor._failure_of(child) == "crashes when it is used (SIGSEGV)"


def test_importing_the_doctor_imports_nothing_heavy() -> None:
    code = (
        "import sys, farm.doctor; "
        "print({'torch', 'ray', 'mmcv', 'mlflow', 'numpy', 'openvino'} & set(sys.modules))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "set()"


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """A folder where Python finds onnxruntime-gpu's metadata beside the onnxruntime that is
    installed here, as after `pip install` of both."""
    folder = tmp_path / "onnxruntime_gpu-1.31.1.dist-info"
    folder.mkdir()
    text = "Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.31.1\n"
    (folder / "METADATA").write_text(text)
    return tmp_path


def probe(name: str, *paths: Path) -> Finding:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [PROJECT, *paths]))}
    command = [sys.executable, "-m", "farm.doctor", name]
    child = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return Finding(**json.loads(child.stdout.splitlines()[-1]))


def test_both_packages_of_onnx_runtime_are_no_installation(beside: Path) -> None:
    finding = probe("onnxruntime", beside)
    assert finding.status == "missing"
    assert f"onnxruntime {version('onnxruntime')} and onnxruntime-gpu 1.31.1" in finding.found
    away, again = finding.how.split(" && ")
    assert away == "pip uninstall -y onnxruntime onnxruntime-gpu"
    assert again == "pip install -e '.[onnxruntime]' -c constraints.txt"  # no GPU here
    assert max(map(len, doctor.lines(finding).splitlines())) <= 80


def test_without_cuda_python_no_driver_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "cuda").mkdir()
    (tmp_path / "cuda" / "__init__.py").touch()  # in the place of what is installed
    finding = probe("NVIDIA GPU", tmp_path)
    assert finding.status == "missing" and "cuda-python" in finding.found
    assert finding.how.startswith("pip install cuda-python") and "driver" not in finding.how
    assert max(map(len, doctor.lines(finding).splitlines())) <= 80


@pytest.mark.slow
def test_one_package_of_onnx_runtime_is_well(by_name: dict[str, Finding]) -> None:
    found = by_name["onnxruntime"]
    assert found.status == "ok" and found.found.startswith(version("onnxruntime"))
