"""The documentation as a site: every page, link and interface that it names is there."""

from __future__ import annotations

import os
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


def test_every_key_of_a_matrix_is_explained() -> None:
    text = (PROJECT / "docs" / "matrix.md").read_text()
    first = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    explained = " ".join(first)
    missing = [name for name in MatrixSpec.model_fields if f"`{name}`" not in explained]
    assert missing == ["name"]  # of the sweep: it is in the example
