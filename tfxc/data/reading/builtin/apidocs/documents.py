"""Parses documents: from Python source to (description, parameter names)."""

import ast
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

_NOT_LABELS = {"self", "cls", "args", "kwargs", "kwds"}
_PARAMETER_SECTION = re.compile(
    r"""^[ \t]*(
        (Other[ ])?(Parameters|Params|Arguments|Args|Keyword[ ](Arguments|Args))[ ]*:?[ \t]*$
        | [:@](param|parameter|arg|argument|type|keyword)\b
    )""",
    re.MULTILINE | re.VERBOSE | re.IGNORECASE,
)
# Some docstrings open with the signature, which would give the labels away.
_SIGNATURE = re.compile(
    r"\A\s*[\w.]+\((?:[^()]|\([^()]*\))*\)[ \t]*(->[^\n]*)?$",
    re.MULTILINE,
)
_WORD_BOUNDARY = re.compile(r"[._\W]+|(?<=[a-z0-9])(?=[A-Z])")


def documents_of_file(path: str | Path, module: str) -> list[tuple[str, str, list[str]]]:
    """Returns the documented functions, methods and classes of one source file.

    Args:
        path: the source file; one that does not parse gives nothing.
        module: its dotted name.

    Returns:
        List of ``(name as words, description, [parameter names])``, in the order of the source,
        for everything that has a docstring and at least one parameter; a class has those of its
        ``__init__``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(Path(path).read_bytes())
        except (SyntaxError, ValueError, RecursionError):
            return []
    return list(_documents(tree, module))


def _documents(node: ast.AST, name: str) -> Iterator[tuple[str, str, list[str]]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            qualified = f"{name}.{child.name}"
            description = describe(ast.get_docstring(child) or "")
            labels = parameters(child)
            if description and labels:
                yield words(qualified), description, labels
            yield from _documents(child, qualified)
        elif isinstance(child, ast.stmt):
            yield from _documents(child, name)


def describe(docstring: str) -> str:
    """Returns the docstring down to its section on parameters, white space made single.

    Example:
        >>> describe("Rounds a number.\\n\\nArgs:\\n    digits: how many.")
        'Rounds a number.'
    """
    text = _SIGNATURE.sub("", docstring, count=1)
    section = _PARAMETER_SECTION.search(text)
    text = text[: section.start()] if section else text
    # Half a surrogate pair, legal in a Python literal, cannot be written as UTF-8.
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())


def parameters(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Returns the names of the parameters of a function, or of the ``__init__`` of a class."""
    if isinstance(node, ast.ClassDef):
        constructors = (
            child
            for child in node.body
            if isinstance(child, ast.FunctionDef) and child.name == "__init__"
        )
        function = next(constructors, None)
        if function is None:
            return []
        node = function
    signature = node.args
    arguments = [*signature.posonlyargs, *signature.args, signature.vararg]
    arguments += [*signature.kwonlyargs, signature.kwarg]
    names = [argument.arg for argument in arguments if argument is not None]
    return [name for name in names if name not in _NOT_LABELS and not name.startswith("_")]


def words(qualified: str) -> str:
    """Returns a qualified name as lower-case words.

    Example:
        >>> words("keras.layers.EinsumDense.compute_output_shape")
        'keras layers einsum dense compute output shape'
    """
    return " ".join(filter(None, _WORD_BOUNDARY.split(qualified))).lower()
