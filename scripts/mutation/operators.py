"""Systematic mutants of a module: one small change of its syntax tree each, as a replacement of a stretch of its text.

Left alone are what no test of behaviour can see (annotations, docstrings, decorators, the text of messages) and what no
linter would let pass unseen (imports, names).
"""

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

_COMPARE: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_BINARY: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_TERMS: Final = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.BitAnd, ast.BitOr)  # of which one operand can be dropped
_SWAPPED: Final = {
    **{"min": "max", "minimum": "maximum", "fmin": "fmax", "amin": "amax", "argmin": "argmax", "any": "all"},
    **{"floor": "ceil", "nanmean": "nansum", "mean": "sum", "sin": "cos", "lower": "upper"},
}
_SWAPS: Final = _SWAPPED | {new: old for old, new in _SWAPPED.items() if old not in {"mean", "nanmean"}}
_DROPPED: Final = frozenset(
    {"abs", "square", "sqrt", "clamp", "conj", "conjugate", "neg", "where", "exp", "log", "nan_to_num", "transpose"}
    | {"reciprocal", "clone", "detach", "sort", "cumsum"}
)
_UNSEEN_KEYWORDS: Final = frozenset({"strict"})  # zip(…, strict=True): an assertion about callers


@dataclass(frozen=True)
class Edit:
    """A replacement of a stretch of a file.

    Attributes:
        start: First byte that is replaced.
        end: First byte after it.
        before: What stood there.
        after: What shall stand there.
        line: Line of the change, from 1.
        lines: First and last line of the statement (or the head of the compound statement) that holds it.
        label: What kind of change it is.
    """

    start: int
    end: int
    before: str
    after: str
    line: int
    lines: tuple[int, int]
    label: str

    def applied(self, source: bytes) -> bytes:
        """Return the text of the file with the change made.

        Args:
            source: Its text.
        """
        return source[: self.start] + self.after.encode() + source[self.end :]


def edits(source: bytes) -> list[Edit]:
    """Return all mutants of a module, in the order of its text.

    Args:
        source: Text of the module, in UTF-8.

    Example:
        >>> [(edit.label, edit.after) for edit in edits(b"flag = a < 1")]
        [('< to <=', '(a <= 1)'), ('< to >=', '(a >= 1)'), ('number', '2')]
    """
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found: list[Edit] = []
    for node, lines in _visit(ast.parse(source), (1, 1), within=False):
        for new, label in _mutations(node):
            if ast.dump(new) == ast.dump(node):
                continue
            start = starts[node.lineno - 1] + node.col_offset
            end = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
            text = ast.unparse(ast.fix_missing_locations(new))
            after = text if isinstance(new, ast.Constant | ast.Name | ast.stmt) else f"({text})"
            found.append(Edit(start, end, source[start:end].decode(), after, node.lineno, lines, label))
    return sorted(found, key=lambda edit: (edit.start, edit.end, edit.label, edit.after))


_Located = ast.expr | ast.stmt
_N = TypeVar("_N", bound=ast.AST)


def _visit(node: ast.AST, lines: tuple[int, int], within: bool) -> Iterator[tuple[_Located, tuple[int, int]]]:
    """Yield the expressions and statements that may be changed, with the lines of the statement that holds each."""
    if isinstance(node, ast.stmt):
        body = getattr(node, "body", None)
        last = body[0].lineno - 1 if body else node.end_lineno or node.lineno
        lines = (node.lineno, max(last, node.lineno))
    if isinstance(node, ast.expr | ast.stmt):
        yield node, lines
    for child in _children(node, within):
        inside = within or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _visit(child, lines, inside)


def _children(node: ast.AST, within: bool) -> Iterator[ast.AST]:
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Global | ast.Nonlocal):
        return
    if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
        return
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"isinstance", "cast"}:
        return
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and not within:
        return  # a union of types
    skipped = {"annotation", "returns", "decorator_list", "type_params"}
    for name, value in ast.iter_fields(node):
        if name in skipped:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.keyword) and child.arg in _UNSEEN_KEYWORDS:
                continue
            if isinstance(child, ast.AST):
                yield child


def _mutations(node: _Located) -> Iterator[tuple[_Located, str]]:
    if isinstance(node, ast.Constant):
        yield from _constants(node)
    elif isinstance(node, ast.Compare):
        yield from _compares(node)
    elif isinstance(node, ast.BinOp):
        new = _BINARY.get(type(node.op))
        if new is not None:
            yield _with(node, op=new()), f"{_sign(node.op)} to {_sign(new())}"
        if isinstance(node.op, _TERMS):
            yield node.left, f"right of {_sign(node.op)} dropped"
            yield node.right, f"left of {_sign(node.op)} dropped"
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield _with(node, op=other), "or to and" if isinstance(node.op, ast.Or) else "and to or"
        for i in range(len(node.values)):
            kept = node.values[:i] + node.values[i + 1 :]
            yield (kept[0] if len(kept) == 1 else _with(node, values=kept)), f"operand {i + 1} dropped"
    elif isinstance(node, ast.UnaryOp):
        if not isinstance(node.operand, ast.Constant) or isinstance(node.op, ast.USub):
            yield node.operand, "sign or not dropped"
    elif isinstance(node, ast.IfExp):
        yield _with(node, body=node.orelse, orelse=node.body), "branches swapped"
    elif isinstance(node, ast.Call):
        yield from _calls(node)
    elif isinstance(node, ast.AugAssign):
        new = _BINARY.get(type(node.op))
        if new is not None:
            yield _with(node, op=new()), f"{_sign(node.op)}= to {_sign(new())}="
        yield ast.Pass(), "statement dropped"
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield ast.Pass(), "statement dropped"


def _constants(node: ast.Constant) -> Iterator[tuple[_Located, str]]:
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value), "flag"
    elif isinstance(value, int):
        yield ast.Constant(value + 1), "number"
        if value > 1:
            yield ast.Constant(value - 1), "number"
    elif isinstance(value, float):
        for new in (1.5 * value, value / 1.5) if value else (1.0,):
            if new != value:
                yield ast.Constant(new), "number"


def _compares(node: ast.Compare) -> Iterator[tuple[_Located, str]]:
    for i, op in enumerate(node.ops):
        for new in _COMPARE[type(op)]:
            changed = [*node.ops[:i], new(), *node.ops[i + 1 :]]
            yield _with(node, ops=changed), f"{_sign(op)} to {_sign(new())}"


def _calls(node: ast.Call) -> Iterator[tuple[_Located, str]]:
    func = node.func
    name = func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""
    if name in _SWAPS:
        new = _SWAPS[name]
        changed: ast.expr = _with(func, attr=new) if isinstance(func, ast.Attribute) else ast.Name(new, ast.Load())
        yield _with(node, func=changed), f"{name} to {new}"
    if name in _DROPPED and isinstance(func, ast.Attribute):
        if not isinstance(func.value, ast.Name) or func.value.id not in {"torch", "np", "math", "jnp"}:
            yield func.value, f"{name} dropped"
        elif node.args and name != "where":
            yield node.args[0], f"{name} dropped"
        elif len(node.args) == 3:
            yield node.args[1], "where: always the first"
            yield node.args[2], "where: always the second"


def _with(node: _N, **changes: object) -> _N:
    new = copy.copy(node)
    for name, value in changes.items():
        setattr(new, name, value)
    return new


_SIGNS: Final[dict[type[ast.AST], str]] = {
    **{ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.Is: "is"},
    **{ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in", ast.Add: "+", ast.Sub: "-", ast.Mult: "*"},
    **{ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**", ast.BitAnd: "&", ast.BitOr: "|"},
}


def _sign(op: ast.AST) -> str:
    return _SIGNS.get(type(op), type(op).__name__)
