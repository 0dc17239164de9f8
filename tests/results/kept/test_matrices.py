"""The matrix of a sweep as results keep it: as it was run, it is a matrix file of the same plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import needs_packages

from farm.config.document import load
from farm.config.loader import load_matrix
from farm.config.yaml_values import read
from farm.errors import InputError
from farm.plan import make_plan
from farm.results.kept.as_run import as_run
from farm.results.kept.matrices import keep_matrix, kept, kept_matrix


@needs_packages
def test_the_matrix_as_run_has_the_plan_that_was_run(
    small_matrix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With overrides, a variable and relative paths; from wherever the file is loaded."""
    monkeypatch.setenv("COUNT", "5")
    text = small_matrix.read_text().replace(f"{small_matrix.parent}/", "")
    text = text.replace("synthetic, count: 6", "synthetic, count: '${COUNT}'")
    demo = Path(load_matrix(small_matrix).spec.models["onestage"].config).parent
    relative = small_matrix.with_name("relative.yaml")
    relative.write_text(text.replace(str(demo), "detectors"))
    small_matrix.with_name("detectors").symlink_to(demo)
    words = ["opsets=[11,17]", "runtimes=[null, openvino]", "models.onestage.cfg_options.a.b=1"]
    words += ["name=other", "dataset.seed=9"]
    matrix = load_matrix(relative, words)
    assert not Path(matrix.spec.models["onestage"].config).is_absolute()
    keep_matrix(matrix, tmp_path)
    found = as_run("other", kept(tmp_path, "other"))
    assert found is not None
    comments = [line for line in found.splitlines() if line.startswith("#")]
    heading = comments.index("# Overrides, which are in the matrix below:")
    assert [*map(yaml.safe_load, (one[4:].strip("'") for one in comments[heading + 1 :]))] == [
        "opsets=[11, 17]", 'runtimes=[null, "openvino"]',
        "models.onestage.cfg_options.a.b=1", 'name="other"', "dataset.seed=9",
    ]  # fmt: skip
    path = tmp_path / "elsewhere" / "matrix-as-run.yaml"
    path.parent.mkdir()
    path.write_text(found)
    again = load_matrix(path)
    assert again.cells == matrix.cells
    assert again.spec.model_copy(update={"folder": None}) == matrix.spec
    first, second = make_plan(matrix), make_plan(again)
    assert first.name == second.name == "other" and first.steps.keys() == second.steps.keys()
    assert "${COUNT}" in found  # the values of variables may be secrets


def test_a_matrix_is_kept_in_a_folder_that_need_not_be_there(
    small_matrix: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        keep_matrix(load_matrix(small_matrix), tmp_path / "new" / "results")
    assert kept(tmp_path / "new" / "results", "small")["command"] == f"farm run {small_matrix}"


@pytest.mark.parametrize(
    "value",
    [
        "${A:-x}/${B}", "a: b", "# no comment", "=", "2020-01-01", "yes", "0x10", "1e3", "~", "",
        " padded ", "line\nbreak\n", "é 日本", "long " * 60, "'\"", 1e-5, -0.0, 2**62, None, True,
        [], {}, [[1, "1"], {"a": None}],
    ],
)  # fmt: skip
def test_every_value_that_a_matrix_has_is_read_as_it_was(value: Any, tmp_path: Path) -> None:
    found = {"matrix": str(tmp_path / "m.yaml"), "values": {"name": "s", "key": value}}
    text = as_run("s", found)
    assert text is not None
    values, _ = read(text, str)
    assert values == {"name": "s", "key": value, "folder": str(tmp_path)}
    assert isinstance(values["key"], type(value))


def test_keys_keep_their_order_and_texts_their_letters() -> None:
    values = {"name": "é", "models": {"b": 1, "a": [2, 3]}, "axes": None}
    text = as_run("s", {"matrix": "/m/m.yaml", "values": values, "overridden": [["name"]]})
    assert text is not None
    assert text.endswith("\nname: é\nmodels:\n  b: 1\n  a: [2, 3]\naxes: null\nfolder: /m\n")
    assert 'name="\\u00e9"' in text  # a terminal of any encoding takes it


def test_what_overrides_have_set_and_may_be_secret_is_a_variable(
    small_matrix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        "models.onestage.cfg_options.data.test.type=hunter2", "dataset={type: synthetic, count: 3}",
        "models.onestage.cfg_options.model.depth=18", "models.onestage.cfg_options.a=${OWN_ONE}",
    ]  # fmt: skip
    monkeypatch.setenv("OWN_ONE", "hunter2")
    matrix = load_matrix(small_matrix, words)
    keep_matrix(matrix, tmp_path)
    found = as_run(matrix.name, kept(tmp_path, matrix.name))
    assert found is not None and "hunter2" not in found and "${OWN_ONE}" in found
    path = tmp_path / "matrix-as-run.yaml"
    path.write_text(found)
    variable = "MODELS_ONESTAGE_CFG_OPTIONS_DATA_TEST_TYPE"
    assert f"#   {variable}\n" in found
    with pytest.raises(InputError, match=f"the environment variable {variable} is not set"):
        load_matrix(path)
    monkeypatch.setenv(variable, "hunter2")
    assert load_matrix(path).cells == matrix.cells


@pytest.mark.parametrize(
    ("key", "value", "hidden"),
    [
        ("access_token", "x", True), ("apiKey", "x", True), ("PASSWORD", 123456, True),
        ("key", "x", True), ("secrets", {"a": ["x", "y"]}, True), ("monkey", "x", False),
        ("keypoints", 17, False), ("images", "/data/x", False), ("token", True, False),
        ("images", "https://me:x@host/path", True), ("token", "", False),
        ("cfg_options", {"a.b": "x"}, True), ("cfg_options", {"a.b": 3}, False),
        ("cfg_options", {"db.password": 3}, True), ("token", "${MINE}", False),
        ("token", "${MINE:-x}", True),
    ],
)  # fmt: skip
def test_keys_tell_what_may_be_a_secret(key: str, value: Any, hidden: bool) -> None:
    values = {"name": "s", "dataset": {key: value}}
    for overridden in (["dataset", key], ["dataset"]):
        text = as_run("s", {"matrix": "/a/m.yaml", "values": values, "overridden": [overridden]})
        assert text is not None
        assert (read(text, str)[0]["dataset"] != values["dataset"]) is hidden
        assert ("may be secrets" in text) is hidden
    as_written = as_run("s", {"matrix": "/a/m.yaml", "values": values, "overridden": []})
    assert as_written is not None and read(as_written, str)[0]["dataset"] == values["dataset"]


def test_a_folder_that_no_matrix_can_name_is_left_out(small_matrix: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a${B}\nfolder: b"
    folder.mkdir()
    path = folder / "m.yaml"
    path.write_text(small_matrix.read_text())
    matrix = load_matrix(path)
    keep_matrix(matrix, tmp_path)
    text = as_run("small", kept(tmp_path, "small"))
    assert text is not None and f"# {tmp_path}/a${{B}}\\nfolder: b\n" in text
    (folder / "matrix-as-run.yaml").write_text(text)
    assert load_matrix(folder / "matrix-as-run.yaml").spec == matrix.spec


def test_what_an_earlier_version_kept_has_no_heading_and_what_is_damaged_no_file() -> None:
    text = as_run("s", {"matrix": "/a/m.yaml", "values": {"name": "s"}})
    assert text is not None and "Overrides" not in text and "folder: /a" in text
    for wrong in ({}, {"matrix": 2, "values": {}}, {"matrix": "/a", "values": 3}):
        assert as_run("s", wrong) is None
    for keys in (3, [3], [["no", "such"]], [[]], [[{}]]):
        assert as_run("s", {"matrix": "/a", "values": {"name": "s"}, "overridden": keys})


def test_relative_paths_start_from_the_folder_that_a_matrix_names(
    small_matrix: Path, tmp_path: Path
) -> None:
    (tmp_path / "other" / "inner").mkdir(parents=True)
    path = tmp_path / "other" / "m.yaml"
    for written, folder in (
        ("", path.parent),
        ("folder: inner\n", path.parent / "inner"),
        ("folder: ${F:-inner}\n", path.parent / "inner"),
        (f"folder: {tmp_path}\n", tmp_path),
    ):
        path.write_text(small_matrix.read_text() + written)
        assert load_matrix(path).folder == folder
    (tmp_path / "environments.yaml").write_text("new: {requirements: [openvino]}\n")
    path.write_text(f"folder: {tmp_path}\nenvironments: environments.yaml\n")
    assert load(path).values["environments"] == {"new": {"requirements": ["openvino"]}}


def test_a_folder_that_is_not_there_is_named_with_its_line(small_matrix: Path) -> None:
    text = small_matrix.read_text()
    small_matrix.write_text(f"{text}folder: nowhere\n")
    with pytest.raises(InputError, match=r"there is no folder \S+/nowhere") as error:
        load_matrix(small_matrix)
    place = f"{small_matrix}:{len(text.splitlines()) + 1}"
    assert error.value.where == place
    for wrong in ("a" * 300, "~no such user", '"a\\0b"'):
        small_matrix.write_text(f"{text}folder: {wrong}\n")
        with pytest.raises(InputError, match=r"is no path|control character") as error:
            load_matrix(small_matrix)
        assert error.value.where == place


def test_a_kept_matrix_is_read_where_its_folder_is_not(small_matrix: Path, tmp_path: Path) -> None:
    """As on the machine that reads the results of another one; to run it the folder is needed."""
    folder = tmp_path / "gone"
    folder.mkdir()
    small_matrix.write_text(f"{small_matrix.read_text()}folder: {folder}\n")
    matrix = load_matrix(small_matrix)
    keep_matrix(matrix, tmp_path)
    folder.rmdir()
    again = kept_matrix(tmp_path, matrix.name)
    assert again.spec == matrix.spec
    with pytest.raises(InputError, match=f"there is no folder {folder}"):
        again.require_folder()
