"""The layers of docs/architecture.md, what is light, and what belongs to a method."""

import ast
import configparser
import graphlib
import re
import subprocess
import sys

import pytest

import tfxc
from tests.source_tree import (
    PACKAGE,
    ROOT,
    import_graph,
    imports_of,
    module_name,
    neighbours,
    python_files,
    tree_of,
)
from tfxc.__main__ import COMMANDS
from tfxc.core import registry
from tfxc.data.reading.inspection.completion import load_config

# From bottom to top, as docs/architecture.md shows them ("Layers"). A layer may have several
# groups; a group never imports its neighbours.
LAYERS = [
    [{"core", "version"}],
    [{"parallel"}],
    [{"ops"}],
    [{"labels"}, {"decision"}, {"pretrained"}, {"tuning"}],
    [{"metrics"}, {"data"}, {"ranker"}],
    [{"encoders"}, {"heads"}, {"objectives"}, {"techniques"}],
    [{"model"}],
    [{"inference"}],
    [{"runs"}],
    [{"training"}],
    [{"recipes"}, {"exports"}, {"reports"}, {"serving"}],
    [{"imports"}],
    [{"estimator"}],
    [{"__init__", "__main__", "train", "commands"}],
]
# The same of ``tfxc/data/``, as docs/architecture.md shows it ("Storeys of the data").
STOREYS = [
    {"images"},
    {"examples"},
    {"text"},
    {"reading"},
    {"label_texts", "verification"},
    {"store"},
    {"sources"},
]
LIGHT = ["tfxc", "tfxc.__main__", "tfxc.version", "tfxc.core.cli", "tfxc.core.registry"]
METHODS = [(kind, name) for kind in registry.KINDS for name in registry.names(kind)]
NOTHING = "–"  # noqa: RUF001 (an empty cell of the table)
TABLE = ROOT / "docs" / "methods.md"


def place_of(module):
    """(layer, group) of ``"tfxc.ops.search.bucket_search.gather"`` or ``"tfxc"``."""
    part = module.split(".")[1] if "." in module else "__init__"
    for layer, groups in enumerate(LAYERS):
        for group in groups:
            if part in group:
                return layer, group
    raise AssertionError(f"tfxc/{part} has no layer: add it here and to docs/architecture.md")


def is_allowed(importer, imported):
    """Whether a module may import another: from below, or from its own group."""
    layer, group = place_of(importer)
    lower, other = place_of(imported)
    return lower < layer or group == other


def test_imports_point_down():
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {module_name(path)} may not import {imported}"
        for path in python_files("tfxc")
        for line, imported in imports_of(path)
        if not is_allowed(module_name(path), imported)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("tfxc.heads.mach", "tfxc.labels.hashing", True),
        ("tfxc.heads.mach", "tfxc.heads.base", True),
        ("tfxc.heads.mach", "tfxc.encoders.base", False),
        ("tfxc.heads.mach", "tfxc.model", False),
        ("tfxc.metrics.suite", "tfxc.data.examples.rows", False),
        ("tfxc.ops.search.bucket_search.gather", "tfxc.core.errors", True),
        ("tfxc.core.registry", "tfxc.heads.mach", False),
        ("tfxc.data.text.subwords", "tfxc.pretrained.folder", True),
        ("tfxc.pretrained.folder", "tfxc.data.examples.rows", False),
        ("tfxc.inference.searcher", "tfxc.runs.folder", False),
        ("tfxc.recipes.kfold.recipe", "tfxc.exports.onnx", False),
        ("tfxc.commands.train", "tfxc.commands.prepare", True),
        ("tfxc.training.loop", "tfxc", False),
    ],
)
def test_the_rule_itself(importer, imported, allowed):
    assert is_allowed(importer, imported) is allowed


def circle_in(graph):
    """Names of a graph, each of which imports the next and the last the first; [] if none do."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1][::-1]
    return []


def test_no_modules_import_each_other():
    """Directly or in a circle, annotations included."""
    assert not circle_in(import_graph())


def test_no_neighbours_import_each_other():
    """Folders and modules next to each other, in any folder of the package."""
    folders = neighbours(import_graph())
    assert not {folder: circle for folder in folders if (circle := circle_in(folders[folder]))}


def test_imports_in_data_point_down():
    storeys = neighbours(import_graph())["tfxc.data"]
    level = {name: number for number, names in enumerate(STOREYS) for name in names}
    folders = {
        path.name for path in (PACKAGE / "data").iterdir() if (path / "__init__.py").exists()
    }
    files = {path.stem for path in (PACKAGE / "data").glob("*.py")}
    assert set(level) == folders and files == {"__init__"}
    wrong = [
        f"tfxc.data.{importer} may not import tfxc.data.{imported}"
        for importer, imports in storeys.items()
        for imported in imports
        if level[imported] >= level[importer]
    ]
    assert not wrong, "\n".join(wrong)


def test_circles_are_seen():
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) in (["b", "c", "b"], ["c", "b", "c"])
    graph = {"p.a.x": ["p.b"], "p.b": ["p.a.y"], "p.a.y": []}
    assert not circle_in(graph)
    assert neighbours(graph) == {"p": {"a": {"b"}, "b": {"a"}}}


def test_no_file_hides_behind_an_underscore():
    hidden = [str(path) for path in PACKAGE.rglob("_*.py") if not path.stem.startswith("__")]
    assert not hidden, "a method of several files is a package, what methods share is in `bases`"


def test_every_command_is_a_file():
    files = {path.stem for path in (PACKAGE / "commands").glob("[a-z]*.py")}
    assert files == {command.replace("-", "_") for command in COMMANDS}


def test_imports_inside_functions_are_seen():
    found = {name for _, name in imports_of(PACKAGE / "commands" / "train.py")}
    assert {"tfxc.core.command_options", "tfxc.core.registry", "tfxc.training.job"} <= found


def test_the_document_names_every_layer():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"\w+", text.split("Imports point down only:")[1].split("`tests/")[0]))
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert folders <= listed


def test_light_modules_do_not_import_tensorflow():
    core = [module_name(path) for path in (PACKAGE / "core").rglob("*.py")]
    commands = [f"tfxc.commands.{command.replace('-', '_')}" for command in COMMANDS]
    code = "import importlib, sys\n"
    code += f"for name in {LIGHT + core + commands}: importlib.import_module(name)\n"
    code += "from tfxc.core import registry\n"
    code += "assert all(registry.names(kind) for kind in registry.KINDS)\n"
    code += "print([m for m in ('tensorflow', 'keras', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_help_needs_no_numpy_or_pydantic():
    """Of the commands that are asked most; they take longer to import than all else."""
    code = "import contextlib, sys\nfrom tfxc.__main__ import module_of\n"
    code += "for name in ('train', 'predict', 'evaluate', 'serve'):\n"
    code += "    with contextlib.suppress(SystemExit): module_of(name).main(['--help'])\n"
    code += "print([m for m in ('numpy', 'scipy', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def test_lazy_names_lead_somewhere():
    for name in ("XCModel", "load_config", "load_model", "Run", "SearchOptions", "register_all"):
        assert callable(getattr(tfxc, name))
    assert set(tfxc.__all__) <= set(dir(tfxc))
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = tfxc.absent


def rows_of_table():
    """Rows of docs/methods.md: ``{(kind, name): [cells]}``."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    rows = [cells for cells in rows if len(cells) == 6 and cells[1] in registry.KINDS]
    return {(cells[1], cells[0]): cells for cells in rows}


@pytest.mark.parametrize(("kind", "name"), METHODS)
def test_every_method_has_a_test(kind, name):
    path = ROOT / "tests" / f"{kind}s" / f"test_{name}.py"
    assert path.is_file(), f"{path.relative_to(ROOT)} is missing"


@pytest.mark.parametrize(("kind", "name"), METHODS)
def test_every_method_has_a_row(kind, name):
    cells = rows_of_table().get((kind, name))
    assert cells, f"docs/methods.md has no row for {kind} {name}"
    _, _, sentence, _, test, config = cells
    assert sentence
    assert test == f"tests/{kind}s/test_{name}.py"
    if config != NOTHING:
        assert name in methods_of(ROOT / config, kind), f"{config} does not use {kind} {name}"


def methods_of(path, kind):
    """Names of the methods of a kind that a config uses."""
    config = load_config(path)
    methods = config.techniques if kind == "technique" else [getattr(config, kind)]
    return {method.name for method in methods}


def test_no_row_without_a_method():
    assert set(rows_of_table()) == set(METHODS)


# Packages that are imported by another name than they are installed by.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "faiss": "faiss-cpu",
    "google": "protobuf",
    "mlflow": "mlflow-skinny",
    "sklearn": "scikit-learn",
}


def third_party_imports():
    """(path, line, module) of what the package and its tools import from others.

    Without what is copied into exports: that names its packages in each export.
    """
    for path in python_files("tfxc", "tools"):
        if path.parent.name == "standalone":
            continue
        for node in ast.walk(tree_of(path)):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [f"{node.module}.{alias.name}" for alias in node.names]
            for module in modules:
                top = module.split(".")[0]
                if top not in sys.stdlib_module_names and not (top == "tfxc" or is_tool(top)):
                    yield path, node.lineno, module


def is_tool(module):
    return (ROOT / "tools" / f"{module}.py").exists()


def is_private(module):
    """Whether its authors may change it without a word."""
    hidden = any(part.startswith("_") for part in module.split("."))
    inner = ("tensorflow.python.", "keras.src.", "joblib.externals.")
    return hidden or module.startswith(inner)


def test_private_parts_of_others_stand_in_one_file():
    """``tfxc/ops/private_apis.py`` says why it needs each; ``parallel`` comes before TensorFlow."""
    private = {path for path, _, module in third_party_imports() if is_private(module)}
    assert private == {PACKAGE / "ops" / "private_apis.py", PACKAGE / "parallel.py"}


def test_imported_packages_are_declared():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    required = setup["options"]["install_requires"]
    extras = setup["options.extras_require"]
    lines = [required, *(extras[name] for name in extras if name not in ("test", "lint", "docs"))]
    declared = set(re.findall(r"(?:^|[\n;])\s*([\w-]+)", "\n".join(lines)))
    missing = {
        f"{path.relative_to(ROOT)}:{line}: {top}"
        for path, line, module in third_party_imports()
        if DISTRIBUTIONS.get(top := module.split(".")[0], top.replace("_", "-")) not in declared
    }
    assert not missing, "\n".join(sorted(missing))
