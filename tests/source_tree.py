"""The package's source files as modules and syntax trees, for tests that read the code."""

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tfxc"


def python_files(*folders):
    """All Python files below the given folders of the repository."""
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def module_name(path):
    """``tfxc/ops/losses.py`` -> ``"tfxc.ops.losses"``; a package's own file is ``….__init__``."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@functools.cache
def tree_of(path):
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports_of(path):
    """(line, module) of every import from the package, those inside functions included."""
    found = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            found += [(node.lineno, _target(node.module, alias.name)) for alias in node.names]
    return [(line, name) for line, name in found if name.split(".")[0] == "tfxc"]


def _target(module, name):
    """What ``from module import name`` imports: a module of that name, or something inside."""
    inner = ROOT.joinpath(*module.split("."), name)
    is_module = inner.with_suffix(".py").exists() or inner.with_suffix(".pyx").exists()
    return f"{module}.{name}" if is_module or inner.is_dir() else module
