"""Releases of runtimes and environments in a matrix: cells, options, mistakes at their lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.config import releases
from farm.config.loader import Matrix, load_matrix
from farm.errors import InputError

MATRIX = """\
name: own
models: {a: {source: onnx, file: a.onnx, classes: [x]}}
shapes: {s: {opt: 64x64}}
environments:
  lts: {requirements: [openvino==2025.0.*], python: '3.10'}
  "2031": {interpreter: bin/python}
runtimes: [openvino, openvino@2025.2]
dataset: {type: synthetic}
"""


def read(folder: Path, *overrides: str) -> Matrix:
    (folder / "m.yaml").write_text(MATRIX)
    return load_matrix(folder / "m.yaml", overrides)


def refusal(folder: Path, *overrides: str) -> str:
    with pytest.raises(InputError) as refused:
        read(folder, *overrides)
    return str(refused.value)


def runtimes(matrix: Matrix) -> list[str]:
    return [cell.runtime for cell in matrix.cells]


def test_a_release_is_a_value_of_the_axis_and_part_of_the_cells_name(tmp_path: Path) -> None:
    matrix = read(tmp_path, "runtimes=[openvino, openvino@2025.2, openvino@lts, null@lts]")
    assert [cell.id for cell in matrix.cells] == [
        "a.s.fp32.openvino.cpu",
        "a.s.fp32.openvino@2025.2.cpu",
        "a.s.fp32.openvino@lts.cpu",
        "a.s.fp32.null@lts.cpu",
    ]


def test_rules_select_by_the_whole_name(tmp_path: Path) -> None:
    axis = "runtimes=[openvino, openvino@2025.2, openvino@lts]"
    assert runtimes(read(tmp_path, axis, "exclude=[{runtimes: [openvino]}]")) == [
        "openvino@2025.2", "openvino@lts",
    ]  # fmt: skip
    assert runtimes(read(tmp_path, axis, "exclude=[{runtimes: [openvino@lts]}]")) == [
        "openvino", "openvino@2025.2",
    ]  # fmt: skip
    assert runtimes(read(tmp_path, "include=[{runtimes: [onnxruntime@1.20]}]"))[-1] == (
        "onnxruntime@1.20"
    )


@pytest.mark.parametrize(
    ("runtime", "expected"),
    [
        ("openvino@2025.2", "openvino==2025.2.*"),
        ("openvino@2025", "openvino==2025.*"),
        ("openvino@2025.2.0", "openvino==2025.2.0"),
        ("openvino@2026.0.0rc1", "openvino==2026.0.0rc1"),
        ("openvino@2026.0rc1", "openvino==2026.0rc1"),
        ("onnxruntime_tensorrt@1.20", "onnxruntime-gpu==1.20.*"),
        ("tensorrt@8.6.1.post1", "tensorrt==8.6.1.post1"),
    ],
)
def test_few_numbers_are_the_newest_release_that_begins_so(runtime: str, expected: str) -> None:
    assert releases.unknown(runtime, ()) is None
    assert releases.requirements(runtime)[0] == expected


def test_an_environment_comes_before_a_version(tmp_path: Path) -> None:
    matrix = read(tmp_path, "runtimes=[openvino@2031]")
    assert matrix.spec.environments["2031"].interpreter == "bin/python"
    assert releases.unknown("openvino@lts", ["lts"]) is None


def test_options_of_a_release_replace_those_of_its_runtime_one_by_one(tmp_path: Path) -> None:
    options = "runtime_options={openvino: {A: 1, B: 1}, openvino@2025.2: {B: 2, C: 2}}"
    spec = read(tmp_path, options).spec
    assert spec.options_of("openvino") == {"A": 1, "B": 1}
    assert spec.options_of("openvino@2025.2") == {"A": 1, "B": 2, "C": 2}
    assert spec.options_of("openvino@lts") == {"A": 1, "B": 1}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("runtimes=[openvino@ltx]", "ltx is no version, and no environment of that name; did you"),
        ("runtimes=[openvno@2]", "unknown runtime 'openvno@2'; did you mean 'openvino'?"),
        ("runtimes=[torch@2.6]", "torch runs the model itself"),
        ("runtimes=[null@1.0]", "null is no package, and has no releases"),
        ("runtimes=[openvino@2025.2, openvino@2025.2]", "'openvino@2025.2' stands twice"),
        ("runtimes=['openvino@']", "a version or the name of an environment follows the @"),
        ("runtimes=['openvino@1@2']", "a version or the name of an environment follows the @"),
        ("exclude=[{runtimes: [openvino@ltx]}]", "ltx is no version"),
        ("models.a.runtimes=[openvino@ltx]", "ltx is no version"),
        ("runtime_options={openvino@ltx: {}}", "ltx is no version"),
        ("environments={}", None),
        ("environments={a: {}}", "give either `requirements` and perhaps `python`"),
        ("environments={a: {python: '3.12', image: x}}", "give either `requirements`"),
        ("environments={a: {pyton: '3.12'}}", "unknown key 'environments.a.pyton'; did you mean"),
        ("environments={a: {python: 3.10}}", "YAML reads 3.10 as 3.1"),
        ("environments={a: {python: 3.9}}", "'3.9' is not a version of Python from 3.10 on"),
        ("environments={a: {requirements: [-r x.txt]}}", "'-r x.txt' is no requirement"),
        ("environments={a: {requirements: [./x.whl]}}", "'./x.whl' is no requirement"),
        ("environments={'a.b': {python: '3.12'}}", "is not a name"),
        ("environments=[]", "'environments' is a mapping"),
    ],
)
def test_a_mistake_is_named_at_its_place(
    tmp_path: Path, override: str, expected: str | None
) -> None:
    if expected is None:
        assert read(tmp_path, override).spec.environments == {}
        return
    found = refusal(tmp_path, override)
    assert expected in found and found.startswith("override ")


def test_a_mistake_in_the_file_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(MATRIX.replace("openvino@2025.2", "openvino@old"))
    with pytest.raises(InputError, match=rf"^{path}:7: 'openvino@old': old is no version"):
        load_matrix(path)


def test_a_version_of_python_may_be_written_as_a_number(tmp_path: Path) -> None:
    found = read(tmp_path, "environments={lts: {python: 3.12}}").spec.environments
    assert found["lts"].python == "3.12"


def test_environments_may_stand_in_a_file_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELEASE", "2025.0.*")
    (tmp_path / "envs.yaml").write_text("lts:\n  requirements: ['openvino==${RELEASE}']\n")
    words = ("environments=envs.yaml", "runtimes=[openvino@lts]")
    matrix = read(tmp_path, *words)
    assert matrix.spec.environments["lts"].requirements == ["openvino==2025.0.*"]
    assert matrix.document.values["environments"]["lts"]["requirements"]  # so it is kept, too
    (tmp_path / "envs.yaml").write_text("lts:\n  requirements: [a]\n  pyton: x\n")
    expected = f"{tmp_path}/envs.yaml:3: unknown key 'environments.lts.pyton'"
    assert refusal(tmp_path, *words).startswith(expected)
    (tmp_path / "envs.yaml").write_text("[a]\n")
    assert refusal(tmp_path, *words) == (
        f"{tmp_path}/envs.yaml:1: environments are a mapping of names to values"
    )
    assert refusal(tmp_path, "environments=envs2.yaml").startswith(
        f"override 'environments=envs2.yaml': {tmp_path}/envs2.yaml: cannot read environments: No "
    )
    (tmp_path / "envs.yaml").write_text("lts: {\n")
    assert refusal(tmp_path, *words).startswith(f"{tmp_path}/envs.yaml:")


def test_what_a_runtime_needs_beside_its_package_has_the_same_release() -> None:
    assert releases.requirements("tensorrt_rtx@1.6") == (
        "tensorrt-rtx-cu13-bindings==1.6.*",
        "cuda-bindings>=12.6",
        "tensorrt-rtx-cu13-libs==1.6.*",
        "nvidia-ml-py>=12",
    )
    assert releases.needs("tensorrt_rtx")[1] == "tensorrt-rtx-cu13-libs"
    assert releases.requirements("openvino@2025.2") == ("openvino==2025.2.*",)
