"""What packages of other people's add to the farm, from a file outside of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT

COLUMN = """\
from farm.results.columns import Column
from farm.store.figures import text
RULER = Column("ruler", text, "matrix", lambda cell: cell.planned.cell.model[::-1], heading="ruler")
"""
WRITE = """\
import sys
from pathlib import Path
from farm.config.loader import load_matrix
from farm.config.schema import VerifySpec
from farm.plan import make_plan
from farm.results import leaderboard
from farm.results.rows import make_rows
from farm.store import Store
folder = Path(sys.argv[1])
plan = make_plan(load_matrix(folder / "m.yaml"))
leaderboard.write(make_rows(plan, Store(folder), VerifySpec(), {}), folder, "own")
"""
READ = """\
import sys
from pathlib import Path
from farm.results import leaderboard
from farm.results.tables import render
print(render(leaderboard.read(Path(sys.argv[1])), sys.argv[2]))
"""
MATRIX = """\
name: own
models: {abc: {config: c.py, checkpoint: c.pth}}
opsets: [17]
shapes: {fixed: {opt: 160x160}}
runtimes: [onnxruntime]
dataset: {type: shapes}
"""


def package(folder: Path, group: str, code: str, entry: str) -> Path:
    """A package as pip installs it; the folder to look for it in."""
    info = folder / "other-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{entry}\n")
    (folder / "other.py").write_text(code)
    return folder


def python(code: str, *arguments: object, paths: tuple[Path, ...] = ()) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={"PYTHONPATH": ":".join(map(str, (PROJECT, *paths))), "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import no_such_module\n", "cannot be loaded: ModuleNotFoundError"),
        ("RULER = 3\n", "expected a Column of a new name, not 3"),
        (COLUMN.replace('"ruler"', '"box_ap"', 1), "expected a Column of a new name"),
    ],
)
def test_an_entry_that_is_no_new_column_is_named(tmp_path: Path, code: str, said: str) -> None:
    site = package(tmp_path / "site", "farm.columns", code, "ruler = other:RULER")
    with pytest.raises(AssertionError, match=said) as error:
        python("import farm.results.columns", paths=(site,))
    assert "entry point ruler = other:RULER (farm.columns)" in str(error.value)


def test_a_column_of_another_package_is_in_the_files_and_the_table(tmp_path: Path) -> None:
    for name, text in (("c.py", "model = 1\n"), ("c.pth", "x"), ("m.yaml", MATRIX)):
        (tmp_path / name).write_text(text)
    site = package(tmp_path / "site", "farm.columns", COLUMN, "ruler = other:RULER")
    python(WRITE, tmp_path, paths=(site,))
    table = python(READ, tmp_path, "table", paths=(site,))
    assert " ruler" in table and " cba" in table
    # Without the package the file is read as well: its column is in csv, and in no table.
    assert ",cba" in python(READ, tmp_path, "csv")
    assert "ruler" not in python(READ, tmp_path, "table")
