"""Overrides and variables: what they replace, where they are said to be, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from farm.config import yaml_values
from farm.config.document import Document, load
from farm.config.variables import LONGEST_TEXT, fill
from farm.config.yaml_values import MOST_NESTED, read
from farm.errors import InputError


def document(tmp_path: Path, text: str, *overrides: str, **env: str) -> Document:
    (tmp_path / "m.yaml").write_text(text)
    return load(tmp_path / "m.yaml", overrides, env)


def test_an_override_replaces_a_value_or_adds_one(tmp_path: Path) -> None:
    text = "a: {b: 1, c: 2}\nd: 3\n"
    assert document(tmp_path, text, "a.b=[1, x]", " d = {e: 1}", "f.g.h=", "a.c==").values == {
        "a": {"b": [1, "x"], "c": "="}, "d": {"e": 1}, "f": {"g": {"h": None}},
    }  # fmt: skip
    assert document(tmp_path, "", "a=1").values == {"a": 1}


def test_a_value_is_where_it_was_last_said(tmp_path: Path) -> None:
    found = document(tmp_path, "a:\n  b: 1\n  c: 2\n", "a.b=5", "d.e=1", "d={f: 2}")
    where = {key: found.where(key).rpartition("/")[2] for key in (
        ("a", "b"), ("a", "c"), ("a",), ("d", "f"), ("d", "e"), (), ("gone",),
    )}  # fmt: skip
    assert where == {
        ("a", "b"): "override 'a.b=5'", ("a", "c"): "m.yaml:3", ("a",): "m.yaml:1",
        ("d", "f"): "override 'd={f: 2}'", ("d", "e"): "override 'd={f: 2}'", (): "m.yaml:1",
        ("gone",): "m.yaml:1",
    }  # fmt: skip


def test_dotted_paths_below_cfg_options_are_one_key(tmp_path: Path) -> None:
    text = "m: {a: {cfg_options: {x.y: 1}}}\n"
    assert document(tmp_path, text, "m.a.cfg_options.x.y=2", "m.a.cfg_options.z=3").values == {
        "m": {"a": {"cfg_options": {"x.y": 2, "z": 3}}}
    }
    assert document(tmp_path, text, "m.a.cfg_options={q: 1}").values == {
        "m": {"a": {"cfg_options": {"q": 1}}}
    }


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a", "an override is key=value, for example dataset.limit=10"),
        ("=1", "an override is key=value"), ("a.=1", "an override is key=value"),
        (".a=1", "an override is key=value"), ("a..b=1", "an override is key=value"),
        ("x.y=1", "'x' is not a mapping"), ("d.e.f.g=1", "'d.e.f' is not a mapping"),
        ("l.0=1", "'l' is not a mapping"), ("a=[", "not valid YAML"),
    ],
)  # fmt: skip
def test_a_wrong_override_is_named(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        document(tmp_path, "x: 3\nd: {e: 3}\nl: [1]\n", override)
    assert error.value.message.startswith(message)
    assert error.value.where == f"override '{override}'"


def test_overrides_are_so_deep_and_so_many_at_most(tmp_path: Path) -> None:
    deep = ".".join("k" * MOST_NESTED)
    document(tmp_path, "", f"{deep}=1")
    with pytest.raises(InputError, match=f"nested more than {MOST_NESTED} deep"):
        document(tmp_path, "", f"{deep}.k=1")
    document(tmp_path, "", *["a=1"] * 1000)
    with pytest.raises(InputError, match="more than 1000 overrides"):
        document(tmp_path, "", *["a=1"] * 1001)


def test_variables_are_filled_in_wherever_a_text_is(tmp_path: Path) -> None:
    text = "a: ${X}/b\nb: [1, '${Y:-none}', {c: '${X}${Y:-}'}]\nc: plain\nd: ${X:-default}\n"
    assert document(tmp_path, text, "e=${Z:-1}", X="x").values == {
        "a": "x/b", "b": [1, "none", {"c": "x"}], "c": "plain", "d": "x", "e": "1",
    }  # fmt: skip
    assert document(tmp_path, "a: {b: ${X}, c: ${Y:-a b}}", X="{}").values == {
        "a": {"b": "{}", "c": "a b"}
    }


def test_the_environment_is_the_processs_own_where_none_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARM_OWN", "of the process")
    (tmp_path / "m.yaml").write_text("a: ${FARM_OWN}\n")
    assert load(tmp_path / "m.yaml").values == {"a": "of the process"}
    with pytest.raises(InputError, match="FARM_OWN is not set"):
        load(tmp_path / "m.yaml", env={})


def filled(value: Any, **env: str) -> Any:
    return fill(value, env, lambda key: "/".join(map(str, key)))


@pytest.mark.parametrize(
    ("value", "where", "message"),
    [
        ({"a": ["x", "${GONE}"]}, "a/1", "the environment variable GONE is not set; set it (export "
         "GONE=...) or write ${GONE:-default}"),
        ({"a": f"${{{'N' * 81}}}"}, "a", f"the environment variable {'N' * 80} is not set; set it "
         f"(export {'N' * 80}=...) or write ${{{'N' * 80}:-default}}"),
        ({"a": "${X"}, "a", "'${X': a variable is written ${NAME} or ${NAME:-default}"),
        ({"a": "${9}"}, "a", "'${9}': a variable is written"),
        ({"a": "${BAD}"}, "a", "the environment variable BAD has the control character U+0007"),
        ({"a": "${BAD:-x}"}, "a", "the environment variable BAD has the control character"),
        ({"a": "${LONG}"}, "a", f"the environment variable LONG is longer than {LONGEST_TEXT}"),
    ],
)  # fmt: skip
def test_a_variable_that_cannot_be_filled_in_is_said(value: Any, where: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        filled(value, X="x", BAD="a\x07", LONG="x" * (LONGEST_TEXT + 1))
    assert error.value.message.startswith(message) and error.value.where == where


def test_every_variable_that_cannot_be_filled_in_is_said_at_once() -> None:
    with pytest.raises(InputError) as error:
        filled({"a": "${ONE}${TWO}", "b": ["${THREE}", "${FOUR:-4}"]})
    text = str(error.value)
    assert all(f"variable {name} is not set" in text for name in ("ONE", "TWO", "THREE"))
    assert "FOUR" not in text
    assert filled("${LONG}", LONG="x" * LONGEST_TEXT) == "x" * LONGEST_TEXT
    assert filled({"a": 3, "b": None, "c": "x $ { y"}) == {"a": 3, "b": None, "c": "x $ { y"}


def place(line: int) -> str:
    return f"line {line}"


def values(text: str) -> Any:
    return read(text, place)[0]


def test_yaml_has_the_types_of_json() -> None:
    text = (
        "a: 1\nb: 1.5\nc: true\nd: null\ne: ~\nf: 2026-01-02\ng: =\nh: 'x'\ni: !!str 3\n"
        "j: 0x1f\nk: [a, {b: c}]\nl: !!int '7'\nm: !!float 2\nn: .inf\no: |\n  t\n1: x\ntrue: y\n"
    )
    assert values(text) == {
        "a": 1, "b": 1.5, "c": True, "d": None, "e": None, "f": "2026-01-02", "g": "=", "h": "x",
        "i": "3", "j": 31, "k": ["a", {"b": "c"}], "l": 7, "m": 2.0, "n": float("inf"), "o": "t\n",
        "1": "x", "true": "y",
    }  # fmt: skip
    assert values("") is None and values("# x") is None and values("3") == 3


def test_each_value_has_its_place() -> None:
    _, places = read("a:\n  b: 1\n  c:\n  - x\n  - {d: 2,\n     e: 3}\n", place)
    assert {key: int(where.split()[1]) for key, where in places.items()} == {
        (): 1, ("a",): 1, ("a", "b"): 2, ("a", "c"): 3, ("a", "c", 0): 4, ("a", "c", 1): 5,
        ("a", "c", 1, "d"): 5, ("a", "c", 1, "e"): 6,
    }  # fmt: skip


def test_integers_have_64_bits() -> None:
    most = 2**63 - 1
    assert values(f"[{most}, {-most}]") == [most, -most]
    for wrong in (most + 1, -most - 1):
        with pytest.raises(InputError, match=f"the integer '{wrong}' has more than 64 bits"):
            values(str(wrong))


MERGED = """\
base: &base {a: 1, b: 1}
more: &more {b: 2, c: 2}
own: {<<: *base, b: 3}
list: {<<: [*base, *more], d: 4}
late: {a: 9, <<: *base}
chain: &chain {<<: *base, e: 5}
far: {<<: *chain}
same: *more
"""


def test_merged_entries_give_way_to_own_and_earlier_ones() -> None:
    assert values(MERGED) == {
        "base": {"a": 1, "b": 1}, "more": {"b": 2, "c": 2}, "own": {"a": 1, "b": 3},
        "list": {"b": 1, "c": 2, "a": 1, "d": 4}, "late": {"a": 9, "b": 1},
        "chain": {"a": 1, "b": 1, "e": 5}, "far": {"a": 1, "b": 1, "e": 5},
        "same": {"b": 2, "c": 2},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "duplicate name 'a': it stands already at line 1"),
        ("a: {<<: 3}", 1, "`<<` merges a mapping, or a list of mappings"),
        ("a:\n  <<: [{b: 1}, 3]", 2, "`<<` merges a mapping, or a list of mappings"),
        ("a: &a\n  b: *a", 1, "it contains itself"),
        ("a: &a [1, *a]", 1, "it contains itself"),
        ("a: &a {<<: *a}", 1, "it contains itself"),
        ("a: 1\n[x, y]: 1", 2, "a key must be a plain word"),
        ("\na: !own 1", 2, "the tag '!own' is not taken here; leave it out"),
        ("a: !!set {x}", 1, "the tag '!!set' is not taken here"),
        ("a: !!map [1]", 1, "the tag '!!map' is not taken here"),
        ("a: !!python/none 1", 1, "the tag '!!python/none' is not taken"),
        ("a: !!seq {b: 1}", 1, "the tag '!!seq' is not taken here"),
        ("!!seq a: 1", 1, "the tag '!!seq' is not taken here"),
        ("a:\n\n  !!int x", 3, "'x' is not what the tag !!int says"),
        ("a: !!bool x", 1, "'x' is not what the tag !!bool says"),
        ("a: 1\nb: \x07", 2, "not valid YAML: the character U+0007 is not allowed"),
        ("\ue000", 1, "not valid YAML: the character U+E000 is not allowed"),
        ("a: 1\n b: 2", 2, "not valid YAML: mapping values are not allowed here"),
        ("a: [1", 1, "not valid YAML: expected ',' or ']'"),
        ("a: 1\n--- 2", 2, "not valid YAML: "),
        ("a: '" + "x" * (LONGEST_TEXT + 1) + "'", 1, "the text "),
        ('a: 1\nb: "\\x07"', 2, "the text '\\x07' has the control character U+0007"),
        ('a: 1\nb: "\\U00110000"', 2, "not valid YAML: "),
        ("a: 1\nb: *gone", 2, "not valid YAML: found undefined alias"),
    ],
)
def test_what_is_no_plain_yaml_is_refused_at_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(InputError) as error:
        values(text)
    assert error.value.message.startswith(message)
    assert error.value.where == f"line {line}"


def test_values_are_counted_with_aliases_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_values, "MOST_VALUES", 8)
    assert len(values("a: &a [1, 2]\nb: *a\nc: 1\n")) == 3  # 1 + 3 + 3 + 1
    with pytest.raises(InputError, match="more than 8 values, aliases written out"):
        values("a: &a [1, 2]\nb: *a\nc: 1\nd: 1\n")
    assert values("a: &a {b: 1}\nc: {<<: *a}\n")["c"] == {"b": 1}  # 1 + 2 + 2 + 1 merged
    with pytest.raises(InputError, match="more than 8 values"):
        values("a: &a {b: 1, c: 2}\nc: {<<: *a, d: 1}\n")


def test_keys_and_values_are_counted_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_values, "_MOST_NODES", 5)
    assert values("a: 1\nb: 2") == {"a": 1, "b": 2}
    with pytest.raises(InputError, match="more than 5 keys and values") as error:
        values("a: 1\nb: [2]")
    assert error.value.where == "line 2"


def test_values_are_nested_so_deep_and_no_deeper() -> None:
    assert values("[" * 49 + "1" + "]" * 49)
    with pytest.raises(InputError, match="nested more than 50 deep"):
        values("[" * 50 + "1" + "]" * 50)
    wide = "a: [" + "[[1]], " * 60 + "1]"  # what is closed again is no longer deep
    assert len(values(wide)["a"]) == 61
    chain = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 49))
    assert values(chain)
    with pytest.raises(InputError, match="nested more than 50 deep, aliases written out"):
        values(chain + "b: [[*a48]]\n")
