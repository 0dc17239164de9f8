"""What is broken on purpose in a module: operators, conditions, constants, returned values.

Left out, since no test could or should notice it:

- annotations, decorators, texts, what type checkers alone read, and calls of `log`;
- how large a limit is: constants named MOST_..., LONGEST_..., ..._S or ..._NS, the keyword
  `timeout`, how often something is tried (`for _ in range(3)`), how long a pause is
  (`sleep(pause / 4)`) and how much is read at a time (`read(1 << 20)`); the comparisons with a
  limit are broken;
- how large and how faint things are in a picture: numbers under keys such as `fontSize`;
- whether a bound with a tolerance for rounding (`a > b + 1e-9`) may be reached itself;
- `durable`, of which only a loss of power tells, and how far `indent` moves the lines of JSON;
- tables of names by number, as of processors: a test would repeat them;
- `strict` of `zip`, which only checks the program itself;
- the negation of a condition that is one comparison or a `not`: breaking the comparison itself is
  the same mutant.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE,
    ast.GtE: ast.Gt, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.Pow: ast.Mult,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """path: of the module, from the project's folder. number: of the place in it."""

    path: str
    number: int
    line: int
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.before}  ->  {self.after}"


def changed(node: ast.AST) -> ast.AST | None:
    """Another node in its place; None where there is nothing to break."""
    other = copy.copy(node)
    match other:
        case ast.Compare(
            ops=[ast.Lt() | ast.LtE() | ast.Gt() | ast.GtE()], comparators=[right]
        ) if _has_tolerance(right):
            return None
        case ast.Compare(ops=[one]) if type(one) in _COMPARISONS:
            other.ops = [_COMPARISONS[type(one)]()]
        case ast.BinOp(op=one) if type(one) in _OPERATORS:
            other.op = _OPERATORS[type(one)]()
        case ast.BoolOp(op=ast.And()):
            other.op = ast.Or()
        case ast.BoolOp(op=ast.Or()):
            other.op = ast.And()
        case ast.UnaryOp(op=ast.Not()):
            return other.operand
        case ast.If() | ast.IfExp() | ast.While() if not _broken_itself(other.test):
            other.test = ast.UnaryOp(ast.Not(), other.test)
        case ast.Constant(value=bool(value)):
            other.value = not value
        case ast.Constant(value=int(value)) | ast.Constant(value=float(value)):
            other.value = value + 1
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            other.value = ast.Constant(None)
        case ast.Continue():
            return ast.Break()
        case _:
            return None
    return other


def _has_tolerance(node: ast.expr) -> bool:
    """Whether it is something plus or minus what rounding may be."""
    match node:
        case ast.BinOp(op=ast.Add() | ast.Sub(), right=ast.Constant(value=float(value))):
            return value < 1e-6
    return False


def _broken_itself(test: ast.expr) -> bool:
    """Whether the mutant of the condition itself is its negation."""
    match test:
        case ast.Compare(
            ops=[ast.Eq() | ast.NotEq() | ast.Is() | ast.IsNot() | ast.In() | ast.NotIn()]
        ):
            return True
        case ast.UnaryOp(op=ast.Not()) | ast.Constant():
            return True
    return False


def places(root: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
    """Parent, field and position of every node that can be broken, in a fixed order."""
    for name, value in ast.iter_fields(root):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        several = isinstance(value, list)
        for position, node in enumerate(value if several else [value]):
            if not isinstance(node, ast.AST) or _left_out(node):
                continue
            if _is_left_out_of(root, name, position, node):
                continue
            if changed(node) is not None:
                yield root, name, position if several else None
            yield from places(node)


_LIMIT = re.compile(r"_?(MOST|LONGEST)(_|$)|.*_N?S$")


def _left_out(node: ast.AST) -> bool:
    """What the module's docstring lists: for type checkers, for the log, limits, `strict`."""
    match node:
        case ast.If(test=test):
            return "TYPE_CHECKING" in ast.dump(test)
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="log")))):
            return True
        case ast.Assign(targets=[ast.Name(id=name)]):
            return _LIMIT.match(name) is not None
        case ast.keyword(arg=name):
            return name in ("strict", "timeout", "durable", "indent")
        case ast.Dict(keys=[ast.Constant(value=int()), *_]):
            return True
    return False


_LOOKS = re.compile(
    r"(?i).*(fontsize|padding|opacity|width|limit)|height|symbolSize|strokeDash|offset|d[xy]"
)


def _is_left_out_of(parent: ast.AST, name: str, position: int, node: ast.AST) -> bool:
    """What it lists of numbers that stand in a certain place: tries, pauses, blocks, looks."""
    match parent, node:
        case ast.For(target=ast.Name(id="_")), ast.Call(args=[ast.Constant()]):
            return name == "iter"
        case ast.Call(func=ast.Attribute(attr="sleep")), _:
            return True
        case (
            ast.Call(func=ast.Attribute(attr="read")),
            ast.BinOp(left=ast.Constant(), op=ast.LShift(), right=ast.Constant()),
        ):
            return True
        case ast.Dict(keys=keys), (ast.Constant() | ast.UnaryOp(op=ast.USub()) | ast.List()) if (
            name == "values"
        ):
            key = keys[position]
            return isinstance(key, ast.Constant) and bool(_LOOKS.fullmatch(str(key.value)))
    return False


def mutants(path: Path) -> list[Mutant]:
    """Every mutant of a module."""
    found = []
    for number, (parent, name, position) in enumerate(places(ast.parse(path.read_text()))):
        node = getattr(parent, name)
        node = node if position is None else node[position]
        before, after = (_short(ast.unparse(one)) for one in (node, changed(node)) if one)
        found.append(Mutant(str(path.relative_to(ROOT)), number, node.lineno, before, after))
    return found


def _short(text: str) -> str:
    return text.splitlines()[0][:60]


def tree(mutant: Mutant, *, broken: bool = True) -> ast.Module:
    """The module with the mutant in it, or as it is; its lines have the same numbers."""
    found = ast.parse((ROOT / mutant.path).read_text())
    if broken:
        parent, name, position = list(places(found))[mutant.number]
        if position is None:
            setattr(parent, name, changed(getattr(parent, name)))
        else:
            getattr(parent, name)[position] = changed(getattr(parent, name)[position])
    return ast.fix_missing_locations(found)


def source(mutant: Mutant) -> str:
    """The module's text with the mutant in it."""
    return ast.unparse(tree(mutant))
