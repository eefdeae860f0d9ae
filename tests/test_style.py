"""Lengths of functions, their parameters, docstrings and ``except`` clauses."""

import ast
import functools
import re

import pytest

from tests.source_tree import ROOT, python_files, tree_of

MAX_LINES_OF_A_BODY = 40
MAX_PARAMETERS = 8
# What derives from these is a section of a config: its keys are the constructor's parameters.
SECTIONS_OF_CONFIGS = {
    "Encoder", "Head", "Objective", "Technique", "Recipe", "TextFeatures", "Optimizer", "Schedule",
    "XCClassifier", "TokenFeatures", "Reader",
}  # fmt: skip
WITH_MANY_PARAMETERS = {
    "LayerKernels.search_together": "stands in for a compiled kernel and has its signature",
}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
EVERYTHING = python_files("tfxc", "tests", "tools", "benchmarks", "examples")


def body_lines(function):
    """Lines from the first statement behind the docstring to the last."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def num_parameters(function):
    """Named parameters, without ``self`` and ``cls``."""
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


@functools.cache
def bases_of_classes():
    """``{class: names of its bases}`` of the package."""
    nodes = (node for path in python_files("tfxc") for node in ast.walk(tree_of(path)))
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    return {one.name: {ast.unparse(base).split(".")[-1] for base in one.bases} for one in classes}


def is_section(name):
    """Whether configs set the parameters of a class's constructor."""
    bases = bases_of_classes().get(name, ())
    return name in SECTIONS_OF_CONFIGS or any(is_section(base) for base in bases)


def functions_of(tree, owner=None):
    """Pairs of each function and the name of the class it is in, or None."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, FUNCTIONS):
            yield node, owner
        inner = node.name if isinstance(node, ast.ClassDef) else owner
        yield from functions_of(node, inner)


def public_definitions(tree):
    """Public functions and classes of a module."""
    for node in tree.body:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not node.name.startswith("_"):
            yield node


def catches_everything(handler):
    """``except:`` and ``except Exception``; ``except BaseException`` unless it raises again."""
    if handler.type is None:
        return True
    names = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}
    raises_again = isinstance(handler.body[-1], ast.Raise) and handler.body[-1].exc is None
    return "Exception" in names or ("BaseException" in names and not raises_again)


def test_function_bodies_are_short():
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.name} has {body_lines(node)} lines"
        for path in EVERYTHING
        for node in ast.walk(tree_of(path))
        if isinstance(node, FUNCTIONS) and body_lines(node) > MAX_LINES_OF_A_BODY
    ]
    assert not long, "\n".join(long)


def test_functions_have_few_parameters():
    """More of them is a missing object."""
    many = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.name} has {num_parameters(node)}"
        for path in EVERYTHING
        for node, owner in functions_of(tree_of(path))
        if num_parameters(node) > MAX_PARAMETERS
        and not (node.name == "__init__" and is_section(owner))
        and (f"{owner}.{node.name}" if owner else node.name) not in WITH_MANY_PARAMETERS
    ]
    assert not many, "\n".join(many)


def test_public_things_have_docstrings():
    bare = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}"
        for path in python_files("tfxc")
        for node in public_definitions(tree_of(path))
        if not ast.get_docstring(node)
    ]
    assert not bare, "\n".join(bare)


def test_errors_are_caught_by_name():
    broad = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in EVERYTHING
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ExceptHandler) and catches_everything(node)
    ]
    assert not broad, "\n".join(broad)


def test_nothing_is_left_to_do():
    marked = [
        str(path.relative_to(ROOT))
        for path in python_files("tfxc", "tools")
        if re.search("TODO|FIXME", path.read_text(encoding="utf-8"))
    ]
    assert not marked, "\n".join(marked)


@pytest.mark.parametrize(
    ("code", "broad"),
    [
        ("except:\n  pass", True),
        ("except Exception:\n  pass", True),
        ("except (OSError, Exception) as error:\n  raise ValueError from error", True),
        ("except BaseException:\n  pass", True),
        ("except BaseException:\n  clean()\n  raise", False),
        ("except (OSError, ValueError):\n  pass", False),
    ],
)
def test_the_rule_for_excepts(code, broad):
    handler = ast.parse(f"try:\n  pass\n{code}").body[0].handlers[0]
    assert catches_everything(handler) is broad


def test_the_rule_for_bodies():
    function = ast.parse('def f(\n    a,\n):\n    """Two\n    lines."""\n    b = a\n\n    return b')
    assert body_lines(function.body[0]) == 3


def test_the_rule_for_parameters():
    tree = ast.parse("class A:\n  def f(self, a, /, b, *c, d=1, **e):\n    pass\ndef g(a):\n  pass")
    found = [(owner, node.name, num_parameters(node)) for node, owner in functions_of(tree)]
    assert found == [("A", "f", 3), (None, "g", 1)]
    assert is_section("MACH") and is_section("AdamW") and not is_section("TrainingJob")


# What is hashed, or sent to another process, and the function itself.
DIGESTS_AND_MESSAGES = {
    "escaping.py", "checkpoint_files.py", "checksums.py", "locks.py", "ownership.py",
    "rendezvous.py", "strategies.py",
}  # fmt: skip


def test_json_is_written_by_one_function():
    """``json.dump`` writes NaN and Infinity, which no other reader of JSON takes."""
    wrong = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in python_files("tfxc", "tools")
        if path.parent.name != "standalone"  # runs without tfxc
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(r"\bjson\.dump\(", line)
        or (re.search(r"\bjson\.dumps\(", line) and path.name not in DIGESTS_AND_MESSAGES)
    ]
    assert not wrong, (
        "take tfxc.core.storage.files.write_json or tfxc.core.escaping.json_text: "
        + ", ".join(wrong)
    )
