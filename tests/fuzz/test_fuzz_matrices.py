"""Any matrix: its cells, all of them and no other, or a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from bounds import fuzzed, leaving_no_trace, printable
from matrix_strategies import cells, overrides, right, spoilt, torn

from farm.cli.plan import as_json, as_text
from farm.config.loader import Matrix, load_matrix
from farm.errors import InputError
from farm.plan import make_plan
from farm.store import Store

MOST_PLANNED = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def planned(matrix: Matrix, folder: Path) -> None:
    """The plan, or why there is none: for the model's or the data set's files."""
    if len(matrix.cells) > MOST_PLANNED:
        return
    store = Store(folder / "results" / "store")
    try:
        plan = make_plan(matrix, lambda _: None)
    except InputError as error:
        printable(error)
        return
    assert {one.cell for one in plan.cells} == set(matrix.cells)
    assert as_json(plan, store) and as_text(plan, store)


def tried(folder: Path, data: bytes, words: list[str]) -> Matrix | None:
    path = folder / "m.yaml"
    path.write_bytes(data)
    try:
        with leaving_no_trace(folder):
            matrix = load_matrix(path, words)
            planned(matrix, folder)
    except InputError as error:
        said = printable(error)
        assert all(str(path) in line or "override" in line or "more like" in line
                   for line in said.splitlines())  # fmt: skip
        return None
    return matrix


def dumped(values: dict[str, Any]) -> bytes:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True).encode(errors="replace")


@fuzzed(right(), share=1 / 4)
def test_a_right_matrix_has_the_cells_that_it_says(folder: Path, values: dict[str, Any]) -> None:
    expected = cells(values)
    matrix = tried(folder, dumped(values), [])
    found = [
        (c.model, c.opset, c.shape, c.postprocess, c.precision, c.runtime)
        for c in (matrix.cells if matrix else ())
    ]
    assert set(found) == expected and len(found) == len(expected)


@fuzzed(spoilt(), share=1 / 4)
def test_a_matrix_with_wrong_values_is_read_or_refused(
    folder: Path, values: dict[str, Any]
) -> None:
    tried(folder, dumped(values), [])


@fuzzed(torn(), share=1 / 4)
def test_a_torn_text_is_read_or_refused(folder: Path, data: bytes) -> None:
    tried(folder, data, [])


@fuzzed(right(), overrides, share=1 / 4)
def test_any_override_is_taken_or_refused(
    folder: Path, values: dict[str, Any], words: list[str]
) -> None:
    tried(folder, dumped(values), words)
