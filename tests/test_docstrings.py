"""The examples in docstrings print what they say; ``+SKIP`` marks those that need files."""

import doctest
import importlib
import io

import pytest

from tests.source_tree import ROOT, module_name, python_files

WITH_EXAMPLES = [
    module_name(path).removesuffix(".__init__")
    for path in python_files("tfxc")
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples(module, monkeypatch):
    monkeypatch.chdir(ROOT)
    finder, output = doctest.DocTestFinder(exclude_empty=True), io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    for example in finder.find(importlib.import_module(module), module):
        runner.run(example, out=output.write)
    assert not runner.failures, output.getvalue()
