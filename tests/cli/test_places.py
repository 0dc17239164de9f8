"""Where results and artifacts go: the option, the matrix, the environment, a job's own folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import MATRIX, PROJECT

from farm.cli.places import results_folder, store_folder
from farm.config.loader import Matrix, load_matrix
from farm.errors import InputError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("FARM_RESULTS", "FARM_STORE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def matrix(folder: Path, results: str | None) -> Matrix:
    folder.mkdir()
    path = folder / "m.yaml"
    text = MATRIX.format(demo=PROJECT / "matrices" / "demo")
    path.write_text(text + (f"results: {results}\n" if results else ""))
    return load_matrix(path)


def test_the_option_comes_before_the_matrix_and_that_before_the_environment(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, none = matrix(here / "m", "of-matrix"), matrix(here / "n", None)
    monkeypatch.setenv("FARM_RESULTS", "of-environment")
    assert results_folder("of-option", own) == here / "of-option"
    assert results_folder(None, own) == here / "m" / "of-matrix"
    assert results_folder(None, none) == here / "of-environment"
    assert results_folder(None) == here / "of-environment"
    monkeypatch.delenv("FARM_RESULTS")
    assert results_folder(None, none) == here / "results" == results_folder(None)


def test_a_home_and_absolute_places_are_taken_as_they_are(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert results_folder("~/r") == here / "home" / "r"
    assert results_folder("/far/../away") == Path("/away")
    monkeypatch.setenv("FARM_RESULTS", str(here / "abs"))
    assert results_folder(None) == here / "abs"


@pytest.fixture
def job(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which Ray runs a job's entry point."""
    folder = here / "ray" / "session" / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def test_a_job_keeps_results_in_the_home(job: Path, here: Path) -> None:
    assert results_folder(None) == here / "home" / "farm-results"
    assert results_folder(None, matrix(job / "m", None)) == here / "home" / "farm-results"
    assert results_folder("/shared/r") == Path("/shared/r")


def test_a_relative_place_in_a_job_is_refused_by_who_said_it(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = matrix(job / "m", "of-matrix")
    monkeypatch.setenv("FARM_RESULTS", "of-environment")
    for option, found, who, said in (
        ("r", own, "--results", "'r' would be in"),
        (None, own, "results", "'of-matrix' would be in"),
        (None, None, "FARM_RESULTS", "'of-environment' would be in"),
    ):
        with pytest.raises(InputError, match="all nodes share") as error:
            results_folder(option, found)
        assert error.value.where == who and said in error.value.message


def test_the_store_is_beside_the_results_or_where_the_environment_says(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store_folder(here / "r") == here / "r" / "store"
    monkeypatch.setenv("FARM_STORE", "~/s")
    assert store_folder(here / "r") == here / "home" / "s"
    monkeypatch.setenv("FARM_STORE", "rel")
    assert store_folder(here / "r") == here / "rel"
    monkeypatch.setenv("FARM_STORE", "")
    assert store_folder(here / "r") == here / "r" / "store"
