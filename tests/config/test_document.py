"""Where a value of a matrix was written: its line, an override, or the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.config.document import Document, load
from farm.config.yaml_values import MOST_NESTED
from farm.errors import InputError


def test_a_value_is_where_it_or_its_nearest_parent_was_written(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("# a comment\nname: x\ndataset:\n  type: synthetic\nopsets: [11,\n  17]\n")
    found = load(path, ["dataset.count=3", "opsets=[13]"], {})
    assert found.values == {
        "name": "x", "dataset": {"type": "synthetic", "count": 3}, "opsets": [13],
    }  # fmt: skip
    assert found.where(("name",)) == f"{path}:2"
    assert found.where(("dataset", "type")) == f"{path}:4"
    assert found.where(("dataset", "count", "x")) == "override 'dataset.count=3'"
    assert found.where(("dataset", "gone")) == f"{path}:3"
    assert found.where(("opsets", 0)) == "override 'opsets=[13]'"
    assert found.where(("gone", "a")) == f"{path}:2" == found.where(())


def test_values_that_were_kept_without_their_lines_are_of_the_file() -> None:
    assert Document(Path("m.yaml"), {"a": 1}).where(("a",)) == "m.yaml"


def test_an_override_below_what_is_no_mapping_names_it(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("a: {b: 1}\n")
    with pytest.raises(InputError, match=r"'a\.b' is not a mapping") as error:
        load(path, ["a.b.c=1"], {})
    assert error.value.where == "override 'a.b.c=1'"
    for wrong in ("a", "=1", "a..b=1"):
        with pytest.raises(InputError, match="an override is key=value"):
            load(path, [wrong], {})
    with pytest.raises(InputError, match="more than 1000 overrides"):
        load(path, ["a=1"] * 1001, {})
    assert load(path, ["x.y=${V:-3}"], {}).values["x"] == {"y": "3"}


def nested(depth: int, inner: str) -> str:
    return "{a: " * depth + inner + "}" * depth


def test_values_may_be_nested_so_deep_and_no_deeper(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    for depth, text in (
        (MOST_NESTED, nested(MOST_NESTED - 1, "1")),
        (MOST_NESTED, f"x: &x {nested(20, '1')}\ny: {nested(MOST_NESTED - 21, '*x')}"),
    ):
        path.write_text(text)
        assert load(path, (), {}).values
        path.write_text(text.replace("1", "{a: 1}"))
        with pytest.raises(InputError, match=f"nested more than {depth} deep"):
            load(path, (), {})
