"""What packages of other people's add to the farm, from a file outside of it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import PROJECT

from farm.catalog import OWN_STAGES

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
from farm.results.tables.render import render
print(render(leaderboard.read(Path(sys.argv[1])), sys.argv[2]))
"""
MATRIX = """\
name: own
models: {abc: {config: c.py, checkpoint: c.pth}}
opsets: [17]
shapes: {fixed: {opt: 160x160}}
runtimes: [onnxruntime]
dataset: {type: synthetic}
"""


def package(folder: Path, group: str, code: str, entry: str) -> Path:
    """A package as pip installs it; the folder to look for it in."""
    return install(folder, code, f"[{group}]\n{entry}\n")


def install(folder: Path, code: str, points: str) -> Path:
    info = folder / "other-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)
    (folder / "other.py").write_text(code)
    digest = base64.urlsafe_b64encode(hashlib.sha256(code.encode()).digest()).rstrip(b"=").decode()
    (info / "RECORD").write_text(f"other.py,sha256={digest},{len(code)}\n")
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
        python("from farm.results.columns import COLUMNS; list(COLUMNS)", paths=(site,))
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
    # A file that was written without the package is read with it.
    python(WRITE, tmp_path)
    assert python(READ, tmp_path, "csv", paths=(site,)).splitlines()[1].endswith(",")


# ------------------------------------------- all five at once, by the page that explains them

PAGE = (PROJECT / "docs" / "extending.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)


OTHER = "\n".join(blocks("python"))
(ALL_FIVE,) = blocks("yaml")
(PROJECT_FILE,) = blocks("toml")
POINTS = re.sub(r'^(\w+) = "(.*)"$', r"\1 = \2", PROJECT_FILE.partition("\n\n")[2], flags=re.M)
POINTS = re.sub(r'^\[project\.entry-points\."(.*)"\]$', r"[\1]", POINTS, flags=re.M)


def farm(*words: object, site: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(map(str, (PROJECT, site)))
    return subprocess.run(
        [sys.executable, "-m", "farm", *map(str, words)],
        # Bytecode of a module that is written again within a second, as long as before, is taken.
        env={
            **os.environ, "PYTHONPATH": paths, "COLUMNS": "200", "PYTHONDONTWRITEBYTECODE": "1",
        },
        cwd=cwd, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def five(tmp_path: Path) -> Path:
    """A matrix of nothing but another package's parts, and the files that it names."""
    (tmp_path / "m.yaml").write_text(ALL_FIVE)
    (tmp_path / "notes.txt").write_text("read me")
    peaks = PROJECT / "matrices" / "sources" / "peaks.onnx"
    (tmp_path / "peaks.onnx").write_bytes(peaks.read_bytes())
    install(tmp_path / "site", OTHER, POINTS)
    return tmp_path


@pytest.mark.slow
def test_another_packages_parts_make_a_sweep_and_its_table(five: Path) -> None:
    site = five / "site"
    asked = ("run", "m.yaml", "--executor", "inline", "--no-mlflow", "--results", "results")
    done = farm(*asked, site=site, cwd=five)
    assert done.returncode == 0, done.stdout + done.stderr
    told = farm("leaderboard", "--results", "results", "--format", "json", site=site, cwd=five)
    rows = {row["runtime"]: row for row in json.loads(told.stdout)}
    assert all(row["weight"] == row["engine_bytes"] > 0 for row in rows.values())
    assert rows["mirror"]["status"] == "ok" and rows["mirror"]["bbox_mAP"] > 0.3
    assert rows["mirror"]["bbox_mAP"] == rows["onnxruntime"]["bbox_mAP"]
    assert rows["mirror"]["weigh_key"] != rows["onnxruntime"]["weigh_key"]
    assert "other 1.0" in rows["mirror"]["toolchain"]
    table = farm("leaderboard", "--results", "results", site=site, cwd=five).stdout
    assert "weight" in table and str(rows["mirror"]["weight"]) in table
    again = farm(*asked, site=site, cwd=five)
    assert again.returncode == 0 and "steps to do" not in again.stdout + again.stderr
    # Without the package its results are read all the same; its matrix is refused by name.
    alone = farm("leaderboard", "--results", "results", site=five / "nowhere", cwd=five)
    assert alone.returncode == 0 and "mirror" in alone.stdout and "weight" not in alone.stdout
    gone = farm("plan", "m.yaml", site=five / "nowhere", cwd=five)
    assert gone.returncode == 2 and "m.yaml:3: unknown model source 'stored'" in gone.stderr


def drawn(folder: Path) -> dict[str, Path]:
    """A few drawn images with annotations, as settings over a config's test data set."""
    from farm.datasets import synthetic

    synthetic.draw(folder / "drawn", 2, 5, 160)
    return {
        "data.test.ann_file": folder / "drawn" / "annotations.json",
        "data.test.img_prefix": folder / "drawn" / "images",
    }


@pytest.mark.slow
def test_another_packages_runtime_is_one_for_the_single_tools(five: Path) -> None:
    config = PROJECT / "matrices" / "demo" / "onestage.py"
    asked = ("build", config, "peaks.onnx", "--runtime", "mirror", "--shape", "160")
    done = farm(*asked, "--trt-file", "p.mirror", "--results", "r", site=five / "site", cwd=five)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (five / "p.mirror").read_bytes() == (five / "peaks.onnx").read_bytes()
    wrong = farm(*asked[:4], "miror", "--results", "r", site=five / "site", cwd=five)
    assert wrong.returncode == 2 and "mirror" in wrong.stderr
    data = [f"{name}={value}" for name, value in drawn(five).items()]
    asked = (
        "test",
        config,
        "peaks.onnx",
        "--backend",
        "mirror",
        "--eval",
        "bbox",
        "--results",
        "r",
    )
    done = farm(*asked, "--cfg-options", *data, site=five / "site", cwd=five)
    assert done.returncode == 0 and "bbox_mAP" in done.stdout, done.stdout + done.stderr
    gone = farm(*asked, "--cfg-options", *data, site=five / "nowhere", cwd=five)
    assert gone.returncode == 2 and "'mirror' runs no model here" in gone.stderr


def test_the_doctor_asks_another_packages_runtime(five: Path) -> None:
    code = "from farm.doctor import _try; from farm.doctor.checks import probes\n"
    code += "assert 'mirror' in probes(); print(_try('mirror'))"
    told = python(code, paths=(five / "site",))
    assert "name='mirror', status='ok', found='it reflects'" in told
    broken = (five / "site" / "other.py").read_text().replace('"it reflects"', "1 / 0")
    (five / "site" / "other.py").write_text(broken)
    told = python(code, paths=(five / "site",))
    assert "status='missing'" in told and "division by zero" in told and "pip install other" in told


def test_the_doctor_looks_for_the_packages_of_a_runtime_without_a_probe(five: Path) -> None:
    file = five / "site" / "other.py"
    file.write_text(
        file.read_text().replace('    probe=lambda: Finding("mirror", "ok", "it reflects"),\n', "")
    )
    code = "from farm.doctor import _try, cpu_runtimes\n"
    code += "assert 'mirror' in cpu_runtimes(); print(_try('mirror'))"
    told = python(code, paths=(five / "site",))
    assert f"status='ok', found='onnxruntime {version('onnxruntime')}, other 1.0'" in told
    file.write_text(file.read_text().replace('packages=("onnxruntime",)', 'packages=("glass",)'))
    told = python(code, paths=(five / "site",))
    assert "status='missing', found='not installed: glass', how='pip install other'" in told


def test_the_doctor_names_another_packages_source(five: Path) -> None:
    """Its models need what it says: a library that is probed, or a package that is installed."""
    code = (
        "from farm import doctor\nfrom farm.runtimes.base import Finding\n"
        "names = (*doctor.NEEDED, 'onnxruntime', 'mirror')\n"
        "found = [Finding(name, 'ok', '') for name in names]\n"
        "print(doctor.sources(found), doctor.sources([one for one in found if one.name != {!r}]))"
    )
    site = five / "site"
    assert (
        python(code.format("openvino"), paths=(site,)) == "['onnx', 'stored'] ['onnx', 'stored']\n"
    )
    assert python(code.format("onnxruntime"), paths=(site,)) == "['onnx', 'stored'] []\n"
    file = site / "other.py"
    file.write_text(file.read_text().replace('"onnx", "onnxruntime"', '"onnx", "glass"'))
    assert python(code.format("openvino"), paths=(site,)) == "['onnx'] ['onnx']\n"


TABLE = """\
from pathlib import Path
from farm.models import families, records, table
family = families.read(Path("{families}"))["retinanet"]
found = [
    records.Record(
        opset=17, kind="fixed", runtime="mirror", key="k", family="retinanet",
        config=family.config, date="2026-11-28", versions=records.versions("mirror"), boxes=30,
        exporter=records.exporter(),
    )
]
print(table.as_markdown([family], found))
"""


@pytest.mark.slow
def test_another_packages_runtime_has_columns_in_the_table_of_models(five: Path) -> None:
    narrow = PROJECT / "tests" / "models" / "narrow.yaml"
    page = python(TABLE.format(families=narrow), paths=(five / "site",))
    assert "| OV fixed | OV dynamic | MIR fixed | MIR dynamic | score |" in page
    assert "ORT: ONNX Runtime, OV: OpenVINO, MIR: mirror, all on a CPU in fp32;" in page
    assert "other 1.0" in page
    row = next(line for line in page.splitlines() if line.startswith("| retinanet "))
    assert row.split(" | ")[6] == "······●···"
    asked = ("models", "--families", narrow, "--family", "retinanet", "--opset", 17)
    asked += ("--shapes", "fixed", "--runtime", "mirror", "--records", "found.jsonl")
    done = farm(*asked, site=five / "site", cwd=five)
    assert done.returncode == 0 and "1/1 same detector" in done.stdout, done.stderr


def plan_keys(five: Path) -> dict[str, str]:
    code = (
        "import json, sys\nfrom farm.config.loader import load_matrix\n"
        "from farm.plan import make_plan\n"
        "from farm.specs import ModelFacts\n"
        "known = lambda key: ModelFacts(('circle',), False, 'one', opset=13)\n"
        "cells = make_plan(load_matrix(sys.argv[1]), known).cells\n"
        "steps = {f'{c.cell.runtime} {s}': k for c in cells for s, k in c.steps.items()}\n"
        "print(json.dumps(steps))"
    )
    found: dict[str, str] = json.loads(python(code, five / "m.yaml", paths=(five / "site",)))
    return found


def test_another_packages_code_and_files_are_in_the_keys(five: Path) -> None:
    before = plan_keys(five)
    assert set(before) == {
        f"{runtime} {stage}"
        for runtime in ("mirror", "onnxruntime")
        for stage in (*OWN_STAGES, "weigh")
        if stage not in ("convert", "compare")  # neither is asked for
    }

    def changed() -> set[str]:
        after = plan_keys(five)
        return {name for name in before if after[name] != before[name]}

    assert not changed()
    (five / "notes.txt").write_text("read me again")
    of_mirror = {f"mirror {s}" for s in ("build", "verify", "evaluate", "measure", "weigh")}
    assert changed() == of_mirror
    (five / "notes.txt").write_text("read me")
    with (five / "site" / "other.py").open("a") as file:
        file.write("FASTER = True\n")
    # All is made of this package's model; but for that, what ONNX Runtime does is its own.
    assert changed() == set(before)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            "{mirror: {thread: 1}}",
            "mirror has no option 'thread'; did you mean 'threads'",
        ),
        ("{mirror: {threads: many}}", "mirror's option 'threads': input should be"),
        ("{mirror: {notes: none.txt}}", "none.txt does"),
    ],
)
def test_another_packages_options_are_checked_as_the_farms(
    five: Path, options: str, said: str
) -> None:
    told = farm("plan", "m.yaml", f"runtime_options={options}", site=five / "site", cwd=five)
    assert said in " ".join((told.stdout + told.stderr).split())


@pytest.mark.parametrize(
    ("line", "wrong", "said"),
    [
        ("dataset: {type: discs, seed: 7", "dataset: {type: disc, seed: 7", "did you mean 'discs'"),
        ("seed: 7", "sed: 7", "unknown key 'dataset.sed'; did you mean 'seed'"),
        ("source: stored", "source: stord", "unknown model source 'stord'; did you mean 'stored'"),
        ("network: peaks.onnx", "netwok: peaks.onnx", "did you mean 'network'"),
    ],
)
def test_another_packages_words_in_a_matrix_are_known(
    five: Path, line: str, wrong: str, said: str
) -> None:
    (five / "m.yaml").write_text(ALL_FIVE.replace(line, wrong))
    told = farm("plan", "m.yaml", site=five / "site", cwd=five)
    assert told.returncode == 2 and said in told.stderr, told.stderr


@pytest.mark.parametrize(
    ("group", "kind", "name", "taken"),
    [
        ("farm.runtimes", "Runtime", "MIRROR", ('name="mirror"', 'name="openvino"')),
        ("farm.sources", "Source", "STORED", ('name="stored"', 'name="onnx"')),
        ("farm.datasets", "DatasetType", "DISCS", ('name="discs"', 'name="coco"')),
        ("farm.stages", "ExtraStage", "WEIGH", ('name="weigh"', 'name="build"')),
    ],
)
def test_an_entry_that_is_no_new_part_is_named(
    five: Path, group: str, kind: str, name: str, taken: tuple[str, str]
) -> None:
    """It cannot be loaded, is something else, or has a name that is taken: exit code 2."""
    code, info = five / "site" / "other.py", five / "site" / "other-1.0.dist-info"
    for text, points, said in (
        (OTHER, POINTS.replace(f":{name}\n", ":NOTHING\n"), "cannot be loaded: AttributeError"),
        (OTHER, POINTS.replace(f":{name}\n", ":weigh\n"), f"expected a {kind} of a new name"),
        (OTHER.replace(*taken), POINTS, f"expected a {kind} of a new name"),
    ):
        code.write_text(text)
        (info / "entry_points.txt").write_text(points)
        told = farm("plan", "m.yaml", site=five / "site", cwd=five)
        assert told.returncode == 2 and said in told.stderr, told.stderr
        assert f"({group})" in told.stderr and "Traceback" not in told.stderr


def test_what_another_package_imports_of_the_farm_counts(five: Path) -> None:
    code = "from farm.plan.content.closure import _imported_by; print(_imported_by('other'))"
    told = python(code, paths=(five / "site",))
    assert "'farm.datasets.synthetic'" in told and "'farm.stages.engines.opened'" in told


def test_a_probe_that_finds_nothing_shows_the_descriptors_command(five: Path) -> None:
    file = five / "site" / "other.py"
    file.write_text(file.read_text().replace('"ok", "it reflects"', '"missing", "nowhere"'))
    code = "from farm.doctor import _try; print(_try('mirror'))"
    told = python(code, paths=(five / "site",))
    assert "status='missing', found='nowhere', how='pip install other'" in told
