"""The examples in docstrings print what they say, and the names in them exist.

``+SKIP`` marks examples that need files.
"""

import ast
import doctest
import importlib
import io
import re

import pytest

from tests.source_tree import ROOT, module_name, python_files, tree_of
from tests.test_documents import resolves

WITH_EXAMPLES = [
    module_name(path).removesuffix(".__init__")
    for path in python_files("tfxc")
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.fixture(autouse=True)
def _messages_are_printed():
    """Not here: a program that imports the package prints none of its messages."""


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples(module, monkeypatch):
    monkeypatch.chdir(ROOT)
    finder, output = doctest.DocTestFinder(exclude_empty=True), io.StringIO()
    runner = doctest.DocTestRunner()
    for example in finder.find(importlib.import_module(module), module):
        runner.run(example, out=output.write)
    assert not runner.failures, output.getvalue()


@pytest.mark.parametrize("folder", ["tfxc", "tools", "benchmarks", "examples"])
def test_names_of_the_package_exist(folder):
    wrong = []
    for path in python_files(folder):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                text = ast.get_docstring(node) or ""
                names = re.findall(r"(?<![\w./-])tfxc(?:\.\w+)+", text)
                wrong += [f"{path.relative_to(ROOT)}: {n}" for n in names if not resolves(n)]
    assert not wrong, "\n".join(wrong)
