"""The values that a Python file assigns, read without running it."""

import ast
from pathlib import Path
from typing import Any

from tfxc.core.errors import ConfigError
from tfxc.core.storage.reading import read_text

_NO_LITERAL = (ValueError, TypeError, SyntaxError, MemoryError, RecursionError)
_LITERALS = "write the value itself: the file is read, not run"


def read_literals(path: str | Path) -> dict[str, Any]:
    """Returns names and values of a file of assignments such as ``batch_size = 16``.

    Imports and texts that stand alone are passed over.

    Args:
        path: file of Python code.

    Returns:
        {name: value}, numbers, texts, true, false, None, and lists, tuples, sets and dicts of them.

    Raises:
        ConfigError: the file cannot be parsed, or holds anything else, which is named by its line.

    Example:
        >>> read_literals("config.py")["train_configure"]["seed"]  # doctest: +SKIP
        3407
    """
    try:
        body = ast.parse(read_text(path, error=ConfigError)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None) or 1
        raise ConfigError(
            f"this is not Python code: {error}", where=f"{path}:{line}", fix="correct the file"
        ) from None
    values = {}
    for statement in body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            continue
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        assigned = _assigned(statement)
        if assigned is None:
            raise ConfigError(
                f"the line does not assign a value to a name: {_shown(statement)}",
                where=f"{path}:{statement.lineno}",
                fix=_LITERALS,
            )
        name, node = assigned
        try:
            values[name] = ast.literal_eval(node)
        except _NO_LITERAL:
            wrong = _not_literal(node)
            raise ConfigError(
                f"{_shown(wrong)} would have to be computed",
                where=f"{path}:{wrong.lineno}",
                fix=_LITERALS,
            ) from None
    return values


def _assigned(statement: ast.stmt) -> tuple[str, ast.expr] | None:
    """Returns the one name that a statement assigns to, and the value; or None."""
    match statement:
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            return name, value
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name, value
    return None


def _not_literal(node: ast.expr) -> ast.expr:
    """Returns the innermost part of a value that is no literal."""
    while True:
        parts = (part for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr))
        inner = next((part for part in parts if not _is_literal(part)), None)
        if inner is None:
            return node
        node = inner


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except _NO_LITERAL:
        return False
    return True


def _shown(node: ast.AST) -> str:
    try:
        return ast.unparse(node).splitlines()[0][:80]
    except RecursionError:
        return "code nested too deeply to be shown"
