"""What the mutation library does not mutate, decided before any sample is drawn.

Three things that no result depends on: words (messages and `__repr__`), what work is
said to cost (an estimate, which has no one right value: `core/test_plans.py` holds it
against what is measured), and how much is done at a time (`core/test_in_parts.py` shows
that the numbers are the same whatever it is).
"""

from __future__ import annotations

import ast

#: Functions that make nothing else.
FUNCTIONS = {"__repr__", "work", "samples_at_once", "_samples_at_once"}
#: Calls that make a statement one of these.
CALLS = {"at_a_time", "Cost", "done"}


def unasked(source: str) -> set[int]:
    """Return the lines of a module that are not mutated."""
    return {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Raise)
        or (isinstance(node, ast.FunctionDef) and node.name in FUNCTIONS)
        or (isinstance(node, ast.Assign | ast.Expr) and _called(node) & CALLS)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def _called(statement: ast.stmt) -> set[str]:
    """Return the names of what a statement calls, without where they are from."""
    functions = (x.func for x in ast.walk(statement) if isinstance(x, ast.Call))
    return {getattr(x, "attr", getattr(x, "id", "")) for x in functions}
