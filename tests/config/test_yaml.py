"""YAML that is wrong, hostile or odd: exit code 2 with a line, and at once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PROJECT

from farm.config.loader import load_matrix
from farm.errors import InputError

CASES = Path(__file__).parents[1] / "cases" / "matrices"
DEMO = (PROJECT / "matrices" / "demo.yaml").read_text()


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    """A bomb that is not refused takes minutes; the bound leaves room for a busy machine."""
    started = time.process_time()
    yield
    assert time.process_time() - started < 20


def refusal(path: Path, *overrides: str) -> str:
    """What is said of a matrix that must be refused: short, and nothing that acts on a terminal."""
    with pytest.raises(InputError) as error:
        load_matrix(path, overrides)
    text = str(error.value)
    assert len(text) < 10_000 and text.replace("\n", "").isprintable()
    return text


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "m.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("merge_bomb", "1: unknown key 'z0'"),
        ("merge_self", "1: it contains itself"),
        ("slow_anchor", "1: more than 20000 values, aliases written out"),
        ("tag_bool", "2: 'x' is not what the tag !!bool says"),
        ("tag_float", "2: '' is not what the tag !!float says"),
        ("tag_omap", "2: the tag '!!omap' is not taken here"),
        ("tag_set", "2: the tag '!!set' is not taken here"),
        ("tag_ts", "2: the tag '!!timestamp' is not taken here"),
    ],
)
def test_a_hostile_file_is_refused_at_its_line(tmp_path: Path, case: str, said: str) -> None:
    text = (CASES / f"{case}.yaml").read_text().replace("@FARM@", str(PROJECT))
    assert f"m.yaml:{said}" in refusal(written(tmp_path, text))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("!!int ''", "'' is not what the tag !!int says"),
        ("!!int 0x", "'0x' is not what the tag !!int says"),
        ("!!float 1" + ":59" * 3000 + ".5", "is not what the tag !!float says"),
        ("!!binary é", "the tag '!!binary' is not taken here"),
        ("!!pairs [a: 1]", "the tag '!!pairs' is not taken here"),
        ("!!python/object/apply:os.system [id]", "the tag '!!python/object/apply:os.system'"),
        ("!own {a: 1}", "the tag '!own' is not taken here"),
        ("!!str [a]", "the tag '!!str' is not taken here"),
        ("!!map a", "the tag '!!map' is not taken here"),
        ("{!!python/name:os.system : 1}", "the tag '!!python/name:os.system' is not taken here"),
        ('"\\0"', r"the text '\x00' has the control character U+0000"),
        ('"\\e[31m"', r"the text '\x1b[31m' has the control character U+001B"),
        ('"\\uD800"', r"the text '\ud800' has the control character U+D800"),
        ('{"\\x9b": 1}', r"the text '\x9b' has the control character U+009B"),
        ('"\\U00110000"', "not valid YAML: chr() arg not in range"),
        ('"\\UFFFFFFFF"', "not valid YAML: "),
        ("\x01", "not valid YAML: the character U+0001 is not allowed"),
        ("\ue000", "not valid YAML: the character U+E000 is not allowed"),
        ("x" * 100_000, "is longer than 10000 characters"),
        ("1" * 100_000, "is longer than 10000 characters"),
        ("0x" + "f" * 5000, "has more than 64 bits"),
        ("1" * 5000, "is not what the tag !!int says"),
        ("[" * 10_000, "not valid YAML: nested more than 50 deep"),
        ("\n" + "".join(" " * i + "a:\n" for i in range(1, 100)), "nested more than 50 deep"),
        ("&a [*a]", "it contains itself"),
        ("{<<: 1}", "`<<` merges a mapping, or a list of mappings"),
        ("{<<: [{a: 1}, b]}", "`<<` merges a mapping, or a list of mappings"),
        ("{<<: {a: 1, a: 2}}", "duplicate name 'a': it stands already at"),
        ("{<<: {a: 1}, <<: {b: 1}}", "duplicate name '<<': it stands already at"),
        ("&a {b: {<<: *a}}", "it contains itself"),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_a_value_that_is_none_is_refused_at_its_line(tmp_path: Path, name: str, said: str) -> None:
    path = written(tmp_path, DEMO.replace("name: demo", f"name: {name}"))
    text = refusal(path)
    assert said in text and f"{path}:" in text
    if "nested" not in said:
        assert text.startswith(f"{path}:2: ")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (DEMO.encode() + b"# \xe9\n", "m.yaml:18: cannot read the matrix: it is not UTF-8 text"),
        (DEMO.encode("utf-16"), "m.yaml:1: cannot read the matrix: it is UTF-16 or UTF-32"),
        (DEMO.encode() + b"#" * 2_000_000, "more than 1 MiB"),
        (b"a: 1\n---\nb: 1\n", "m.yaml:2: not valid YAML: but found another document"),
        (b"a: " + b"${a:-" * 60_000, "is longer than 10000 characters"),
    ],
    ids=["latin-1", "utf-16", "large", "documents", "variables"],
)
def test_a_file_that_is_no_text_of_a_matrix_is_refused(
    tmp_path: Path, data: bytes, said: str
) -> None:
    assert said in refusal(written(tmp_path, data))


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero"), tmp_path / ("x" * 300)):
        assert "cannot read the matrix: " in refusal(path)


def test_a_mark_of_byte_order_and_dates_are_plain_text(tmp_path: Path) -> None:
    path = written(tmp_path, "\ufeff" + DEMO.replace("name: demo", "name: 2026-11-01"))
    assert load_matrix(path).name == "2026-11-01"


def test_what_is_merged_later_or_farther_gives_way(tmp_path: Path) -> None:
    merged = "measure: {<<: [{seconds: 3}, {seconds: 4, threads: 1}], threads: 2}"
    path = written(
        tmp_path, DEMO.replace("measure: {seconds: 0.3, min_samples: 30, throughput: 0.2}", merged)
    )
    measure = load_matrix(path).spec.measure
    assert (measure.seconds, measure.threads) == (3, 2)


def test_a_chain_of_merges_is_no_larger_than_its_text(tmp_path: Path) -> None:
    lines = ["z0: &z0 {a0: 1}"]
    lines += [f"z{i}: &z{i} {{<<: [*z{i - 1}, *z{i - 1}], a{i}: 1}}" for i in range(1, 300)]
    assert "more than 20000 values" in refusal(written(tmp_path, "\n".join(lines)))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ((CASES / "override_laughs.txt").read_text().strip(), "more than 20000 values"),
        (".".join("a" * 3000) + "=1", "the key is nested more than 50 deep"),
        ("name=" + "[" * 20_000, "nested more than 50 deep"),
        ("name=!!int ''", "is not what the tag !!int says"),
        ("name=a\x07", "the character U+0007 is not allowed"),
        ("name=\udcff", "the character U+DCFF is not allowed"),
        ("x\x1b[31m=1", r"unknown key 'x\x1b[31m'"),
        ("x" * 100_000 + "=1", "unknown key 'xxx"),
        ("measure.seconds=1e400", "a finite number"),
        ("verify.max_score_diff=.inf", "a finite number"),
        ("verify.max_score_diff=1e999", "a finite number"),
        ("measure.min_samples=1" + "0" * 20, "has more than 64 bits"),
        ("measure.threads=yes", "'measure.threads': a number is expected, not true"),
        ("opsets=[" + "99," * 3000 + "]", "and more like these"),
        ("workspaces=['" + "9" * 5000 + "GiB']", "is not a size with a unit"),
        ("shapes.fixed.opt=" + "9" * 5000 + "x1", "is not a shape"),
    ],
    ids=lambda value: ascii(value)[:30],
)  # fmt: skip
def test_a_hostile_override_is_refused_by_name(override: str, said: str) -> None:
    text = refusal(PROJECT / "matrices" / "demo.yaml", override)
    assert said in text and text.startswith("override ")


def test_an_override_over_another_is_where_its_values_were_said() -> None:
    matrix = PROJECT / "matrices" / "demo.yaml"
    whole, later = "dataset={type: synthetic, x: 1}", "dataset.size=0"
    assert refusal(matrix, "dataset.x=2", whole).startswith(f"override {whole!r}: unknown key")
    assert f"override {later!r}: 'dataset.size'" in refusal(matrix, whole, later)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("a\x1b]0;title\x07", "has the control character U+001B"),
        ("a\udcffb", "has the control character U+DCFF"),
        ("x" * 20_000, "is longer than 10000 characters"),
    ],
    ids=["escape", "bytes", "long"],
)
def test_a_variable_that_holds_no_plain_text_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    monkeypatch.setenv("FOLDER", value)
    path = written(tmp_path, DEMO.replace("name: demo", "name: ${FOLDER}"))
    assert refusal(path) == f"{path}:2: the environment variable FOLDER {said}"


def test_axes_that_multiply_to_too_many_cells_are_refused(tmp_path: Path) -> None:
    names = [f"s{i}" for i in range(300)]
    shapes = "".join(f"  {name}: {{opt: 160x160}}\n" for name in names)
    sizes = ", ".join(f"{i}MiB" for i in range(1, 200))
    text = DEMO.replace("shapes:\n", f"shapes:\n{shapes}").replace("openvino]", "tensorrt]")
    text += f"workspaces: [{sizes}]\n"
    assert "m.yaml:2: its axes make " in refusal(written(tmp_path, text))


@pytest.mark.parametrize("function", ["__main__:f", "__main__.a:f", "a..b:f", "a.:f", ".a:f"])
def test_a_function_that_no_other_process_can_import_is_refused(
    tmp_path: Path, function: str
) -> None:
    model = f"  own: {{source: module, function: '{function}', outputs: raw}}\n"
    path = written(tmp_path, DEMO.replace("models:\n", f"models:\n{model}"))
    assert refusal(path).startswith(f"{path}:4: 'models.own.function'")
