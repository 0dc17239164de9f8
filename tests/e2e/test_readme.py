"""The README and the pages that continue it: every command and matrix works as it stands."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT, Farm

from farm.config.loader import load_matrix

README = (PROJECT / "README.md").read_text()
PAGES = [(PROJECT / "docs" / f"{name}.md").read_text() for name in ("tools", "offline")]


def blocks(language: str, *texts: str) -> list[str]:
    pattern = rf"^```{language}\n(.*?)^```"
    return [found for text in texts for found in re.findall(pattern, text, re.M | re.S)]


def commands(*texts: str) -> list[str]:
    return [
        line.split("#")[0].strip()
        for block in blocks("sh", *texts)
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith(("farm ", "python "))
    ]


TOUR = (PROJECT / "docs" / "tour.md").read_text()
ALL = commands(README, TOUR, *PAGES)
COMMANDS = [one for one in commands(README, *PAGES) if one not in commands(TOUR)]
"""Those of the tour run in `test_own_detector.py`."""


@pytest.fixture(scope="module")
def results(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's results, to which the commands add others."""
    return Path(shutil.copytree(demo, tmp_path_factory.mktemp("readme") / "results"))


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_works(command: str, results: Path, farm: Farm) -> None:
    program, *words = shlex.split(command)
    if program == "farm":
        done = farm(*words, env={"FARM_RESULTS": str(results)})
    else:
        python = [sys.executable, *words]
        done = subprocess.run(python, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("code", [one for one in blocks("python", README) if "Detector" not in one])
def test_python_of_the_readme_works(code: str, results: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=results.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == "", done.stderr


def test_the_readme_begins_as_the_tour_does() -> None:
    assert [one for one in commands(README) if one in commands(TOUR)] == commands(TOUR)[:5]
    (program,) = blocks("python", TOUR)
    assert program in blocks("python", README)


def test_the_readme_has_the_commands_that_people_need() -> None:
    words = {command.split()[1] for command in ALL if command.startswith("farm ")}
    assert words == {
        "init",
        "plan",
        "run",
        "watch",
        "leaderboard",
        "report",
        "best",
        "bundle",
        "check",
        "diff",
        "reproduce",
        "bisect",
        "compare",
        "store",
        "doctor",
        "gc",
    } | {
        "export",
        "build",
        "test",
        "models",
        "pack",
        "run-pack",
        "import",
    }


def test_the_matrix_of_the_readme_is_the_one_that_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    text = blocks("yaml", README)[0]
    assert yaml.safe_load(_shielded(text)) == yaml.safe_load(
        _shielded((PROJECT / "matrices" / "coco-mini.yaml").read_text())
    )


def _shielded(text: str) -> str:
    return re.sub(r"\$\{(\w+)\}", r"<\1>", text)


def test_every_matrix_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COCO", "COCO_MINI", "CHECKPOINTS"):
        monkeypatch.setenv(name, "/nowhere")
    for path in (PROJECT / "matrices").glob("*.yaml"):
        assert load_matrix(path).cells


def test_what_the_readme_links_to_is_there() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (PROJECT / link).exists()] == []


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.M), target
