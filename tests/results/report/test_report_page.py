"""The report's page: every text of files is escaped, and nothing is loaded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from rows import row

from farm.results.report.page import page
from farm.results.report.sections import section
from farm.results.report.whole import by_target, report_of
from farm.store import Store

HOSTILE = "</script></style><img src=x onerror=alert(1)>\"'&{{77*77}}\x1b[31m\u202e"


def made(tmp_path: Path, **values: object) -> str:
    rows = [
        row("a") | values,
        row("b", status="failed", failed_stage="build", reason=HOSTILE, runtime=HOSTILE),
    ]
    return page(HOSTILE, [section(rows, Store(tmp_path), HOSTILE, [HOSTILE])], "/* vega */")


def test_texts_of_files_are_escaped_wherever_they_stand(tmp_path: Path) -> None:
    names = ("cell", "model", "shape", "device", "target", "sweep", "toolchain", "precision")
    found = made(tmp_path, **dict.fromkeys(names, HOSTILE))
    assert "<img src=x" not in found and "\x1b" not in found and "\u202e" not in found
    assert "5929" not in re.sub(r"<style>.*?</style>", "", found, flags=re.S).split("<script")[0]
    assert found.count("<script") == found.count("</script>") == 4
    assert found.count("&lt;img src=x onerror=alert(1)&gt;") > 10


def test_the_data_are_what_the_rows_are_though_escaped(tmp_path: Path) -> None:
    found = made(tmp_path, model=HOSTILE)
    text = re.search(r'class="data">(.*?)</script>', found, re.S)
    assert text
    data = json.loads(text[1])
    assert data["filters"]["model"][0] == HOSTILE.replace("\x1b", "\\x1b").replace(
        "\u202e", "\\u202e"
    )


def test_nothing_is_loaded_and_no_script_runs_but_the_pages_own(tmp_path: Path) -> None:
    found = made(tmp_path)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', found)
    nonces = set(re.findall(r'nonce="([^"]+)"', found))
    assert "default-src 'none'" in policy and len(nonces) == 1
    assert f"script-src 'nonce-{nonces.pop()}'" in policy and "unsafe-eval" not in policy
    assert not re.findall(r'(?:src|href)="(?!#|data:)', found)


@pytest.mark.parametrize("others", [None, {}, {"cpu": ["a third sweep"]}])
def test_a_report_has_a_section_for_each_target_with_the_sweeps_that_it_does_not_show(
    others: Any, tmp_path: Path
) -> None:
    rows = [row("a"), row("b", target="gpu"), row("c", sweep="t")]
    groups = by_target(rows)
    assert {target: [one["cell"] for one in own] for target, own in groups.items()} == {
        "cpu": ["a", "c"], "gpu": ["b"],
    }  # fmt: skip
    found = report_of(groups, Store(tmp_path), lambda _: pytest.fail("no picture"), None, others)
    assert "<title>s, t" in found and "3 cells on 2 targets" in found
    assert ("a third sweep" in found) is bool(others)
