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


def import_graph():
    """{module: the modules it imports}, annotations included; a package's own file is the package.

    What any module imports from ``tfxc`` itself, its public names, is left out.
    """
    modules = {module_name(path).removesuffix(".__init__"): path for path in python_files("tfxc")}

    def module_of(name):
        while name not in modules:
            name = name.rpartition(".")[0]
        return name

    graph = {}
    for module, path in modules.items():
        imported = {module_of(name) for _, name in imports_of(path)}
        graph[module] = sorted(imported - {module, "tfxc"})
    return graph


def neighbours(graph):
    """{folder: {name in it: the names in it that it imports}} of an ``import_graph``.

    Names are those of folders and of modules, whatever is inside.
    """
    folders = {}
    for importer, imports in graph.items():
        for imported in imports:
            pair = zip(importer.split("."), imported.split("."), strict=False)
            common = []
            for ours, theirs in pair:
                if ours != theirs:
                    names = folders.setdefault(".".join(common), {})
                    names.setdefault(ours, set()).add(theirs)
                    break
                common.append(ours)
    return folders
