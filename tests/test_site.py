"""The documentation as a site: every page, link and interface that it names is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT

from farm.config.schema import MatrixSpec
from tools.site_pages import with_site_links


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=PROJECT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    pages = {path.parent.name for path in (tmp_path / "site").rglob("index.html")}
    assert {page.stem for page in (PROJECT / "docs").glob("*.md")} <= pages
    reference = (tmp_path / "site" / "reference" / "index.html").read_text()
    assert "compute_capabilities" in reference


def test_links_lead_to_pages_of_the_site_and_others_become_text() -> None:
    text = "[a](docs/a.md#b) ![p](docs/p.png) [c](cluster/README.md) [d](tools/setup.py)"
    shown = "[a](a.md#b) ![p](p.png) [c](cluster.md) d"
    assert with_site_links(text, "README.md") == shown
    assert with_site_links("[x](../docs/x.md) [y](https://y)", "cluster/README.md") == (
        "[x](x.md) [y](https://y)"
    )


def test_lines_have_at_most_120_characters_except_in_tables() -> None:
    pages = [*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md"), *PROJECT.glob("*/README.md")]
    assert len(pages) > 20
    long = [
        f"{page.relative_to(PROJECT)}:{number}"
        for page in pages
        for number, line in enumerate(page.read_text().splitlines(), 1)
        if len(line) > 120 and not line.startswith("|")
    ]
    assert long == []


def test_the_layout_names_what_is_there_and_all_of_the_first_level() -> None:
    text = (PROJECT / "docs" / "architecture.md").read_text()
    farm, listed = PROJECT / "farm", set[Path]()
    folder = entry = farm
    for line in text.partition("    farm/\n")[2].partition("\n\n")[0].splitlines():
        said, indent = line, len(line) - len(line.lstrip())
        if indent < 10:  # else the line goes on with the entry above
            names, _, said = line.strip().partition("  ")
            entries = [(farm if indent == 6 else folder) / one for one in names.split(", ")]
            listed |= set(entries)
            entry = entries[-1]
            folder = entry if indent == 6 else folder
        listed |= {entry / one for one in re.findall(r"\w+(?:\.py\b|/)", said)}
    assert len(listed) > 70
    assert [str(one) for one in sorted(listed) if not one.exists()] == []
    packages = {path.parent for path in farm.glob("*/__init__.py")}
    assert packages | set(farm.glob("[a-z]*.py")) <= listed


@pytest.mark.parametrize("page", ["architecture.md", "internals.md"])
def test_files_and_folders_that_a_page_names_are_there(page: str) -> None:
    """By the end of their path, with or without `.py`; but for those of a place of results."""
    tops = ("farm", "tests", "benchmarks", "docs")
    there = [path.relative_to(PROJECT) for top in tops for path in (PROJECT / top).rglob("*")]
    names = {f"/{path.as_posix()}" for path in there if "__pycache__" not in path.parts}
    names |= {f"/{top}" for top in tops} | {name.removesuffix(".py") for name in names}
    text = (PROJECT / "docs" / page).read_text()
    named = set(re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+(?:\.[a-z]+)?)?|[a-z_]+\.py)`", text))
    assert len(named) > 10
    of_results = {"store/elsewhere/", "estimates/steps.json"}
    ends = tuple(f"/{one.rstrip('/')}" for one in sorted(named - of_results))
    found = {end for name in names for end in ends if name.endswith(end)}
    assert set(ends) - found == set()


def test_every_key_of_a_matrix_is_explained() -> None:
    text = (PROJECT / "docs" / "matrix.md").read_text()
    first = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    explained = " ".join(first)
    missing = [name for name in MatrixSpec.model_fields if f"`{name}`" not in explained]
    assert missing == ["name"]  # of the sweep: it is in the example
