"""Docstrings of public things, ``except`` clauses, and JSON by one function."""

import ast
import re

import pytest

from tests.source_tree import ROOT, python_files, tree_of

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
EVERYTHING = python_files("tfxc", "tests", "tools", "benchmarks", "examples")


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


# The command line itself, what prints its messages, programs that run without tfxc, and a module
# that says why TensorFlow's own operation is used.
PRINTING = (
    "tfxc/commands/", "tfxc/__main__.py", "tfxc/core/cli.py", "tfxc/core/messages.py",
    "tfxc/core/escaping.py", "tfxc/exports/standalone/",
)  # fmt: skip


def test_the_library_gives_its_messages_to_the_logger():
    names = {"print", "redirect_stdout", "redirect_stderr"}
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in python_files("tfxc")
        if not str(path.relative_to(ROOT)).startswith(PRINTING)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", getattr(node.func, "attr", "")) in names
    ]
    assert not found, "see tfxc.core.messages: " + ", ".join(found)


# What a reader stumbles over: the correct value first, and the wrong one last.
BACKWARDS = re.compile(r"\bexpected,? (but )?found\b|\bexpected\b.*, found\b", re.DOTALL)


def messages(tree):
    """(line, text) of the texts of a module that are no docstrings; {} for what is filled in."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS)) and ast.get_docstring(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and id(node) not in docstrings:
            yield node.lineno, str(node.value)


def test_messages_begin_with_what_is_wrong():
    backwards = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in python_files("tfxc", "tools")
        for line, text in messages(tree_of(path))
        if BACKWARDS.search(text)
    ]
    assert not backwards, "\n".join(backwards)


@pytest.mark.parametrize(
    ("text", "backwards"),
    [
        ("5 labels expected, found 4", True),
        ("one of a, b expected with c, found 'd'", True),
        ("the calibration error, as expected", False),
        ("the head has 4 labels, not 5", False),
    ],
)
def test_the_rule_for_messages(text, backwards):
    assert bool(BACKWARDS.search(text)) is backwards
