"""Mutants of a Python file: one operator, comparison, constant or sign changed, by its place in the text."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

OPERATORS = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.MatMult: "*", ast.Pow: "*", ast.FloorDiv: "*", ast.Mod: "+",
             ast.BitOr: "&", ast.BitAnd: "|", ast.BitXor: "|", ast.LShift: ">>", ast.RShift: "<<"}  # fmt: skip
COMPARISONS = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.Is: "is not", ast.IsNot: "is",
               ast.In: "not in", ast.NotIn: "in"}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A line, what stood there and what stands there now, and the whole changed text."""

    line: int
    before: str
    after: str
    text: str


def mutants(source: str) -> list[Mutant]:
    """All mutants of a source that still parse; messages, docstrings and annotations are left alone."""
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line.encode()))
    data, found = source.encode(), []
    for node, after in _changes(ast.parse(source)):
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        text = (data[:begin] + after.encode() + data[end:]).decode()
        try:
            ast.parse(text)
        except SyntaxError:
            continue
        found.append(Mutant(node.lineno, data[begin:end].decode(), after, text))
    return found


def _changes(tree: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    for node in _code(tree):
        match node:
            case ast.BinOp(left, op, right) if type(op) in OPERATORS:
                yield node, f"({ast.unparse(left)}) {OPERATORS[type(op)]} ({ast.unparse(right)})"
            case ast.Compare(left, [op], [right]) if type(op) in COMPARISONS:
                yield node, f"({ast.unparse(left)}) {COMPARISONS[type(op)]} ({ast.unparse(right)})"
            case ast.BoolOp(op, values):
                yield node, (" or " if isinstance(op, ast.And) else " and ").join(f"({ast.unparse(value)})" for value in values)
            case ast.UnaryOp(ast.Not() | ast.USub(), operand):
                yield node, f"({ast.unparse(operand)})"
            case ast.Constant(value) if isinstance(value, bool):
                yield node, repr(not value)
            case ast.Constant(value) if isinstance(value, int | float):
                yield node, repr(value + 1)
            case ast.IfExp(test, body, orelse):
                yield node, f"({ast.unparse(orelse)}) if ({ast.unparse(test)}) else ({ast.unparse(body)})"


def _code(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes of what is computed: no annotations, no messages of errors, no f-strings."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Raise | ast.JoinedStr | ast.Assert):
            continue
        if isinstance(node, ast.AnnAssign | ast.arg) and child is node.annotation:
            continue
        if isinstance(node, ast.FunctionDef) and child is node.returns:
            continue
        yield child
        yield from _code(child)
