"""The layers of docs/architecture.md, what is light, and what belongs to a method."""

import re
import subprocess
import sys

import pytest

import tfxc
from tests.source_tree import PACKAGE, ROOT, imports_of, module_name, python_files
from tfxc import registry
from tfxc.__main__ import VERBS
from tfxc.config import load_config

# From bottom to top, as docs/architecture.md shows them ("Layers"). A layer may have several
# groups; a group never imports its neighbours.
LAYERS = [
    [
        {
            "checksums",
            "config",
            "settings",
            "registry",
            "errors",
            "escaping",
            "files",
            "locks",
            "progress",
            "version",
        }
    ],
    [{"ops"}],
    [{"labels"}],
    [{"metrics"}, {"data"}, {"ranker"}],
    [{"encoders"}, {"heads"}, {"objectives"}, {"techniques"}],
    [{"model"}],
    [{"training"}],
    [{"recipes"}, {"serving", "serving_check", "predictors", "exports"}, {"reports"}],
    [{"__init__", "__main__", "cli", "estimator", "estimator_model", "estimator_targets", *VERBS}],
]
LIGHT = ["tfxc", "tfxc.__main__", "tfxc.cli", "tfxc.config", "tfxc.errors", "tfxc.files"]
LIGHT += ["tfxc.checksums", "tfxc.locks", "tfxc.progress", "tfxc.registry", "tfxc.version"]
METHODS = [(kind, name) for kind in registry.KINDS for name in registry.names(kind)]
NOTHING = "–"  # noqa: RUF001 (an empty cell of the table)
TABLE = ROOT / "docs" / "methods.md"


def place_of(module):
    """(layer, group) of ``"tfxc.ops.gather"`` or ``"tfxc"``."""
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


@pytest.mark.parametrize("path", python_files("tfxc"), ids=module_name)
def test_imports_point_down(path):
    importer = module_name(path)
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {importer} may not import {imported}"
        for line, imported in imports_of(path)
        if not is_allowed(importer, imported)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("tfxc.heads.mach", "tfxc.labels.hashing", True),
        ("tfxc.heads.mach", "tfxc.heads.base", True),
        ("tfxc.heads.mach", "tfxc.encoders.base", False),
        ("tfxc.heads.mach", "tfxc.model", False),
        ("tfxc.metrics.suite", "tfxc.data.rows", False),
        ("tfxc.ops.gather", "tfxc.errors", True),
        ("tfxc.registry", "tfxc.heads.mach", False),
        ("tfxc.train", "tfxc.prepare", True),
        ("tfxc.training.loop", "tfxc", False),
    ],
)
def test_the_rule_itself(importer, imported, allowed):
    assert is_allowed(importer, imported) is allowed


def test_imports_inside_functions_are_seen():
    found = {name for _, name in imports_of(PACKAGE / "train.py")}
    assert {"tfxc.cli", "tfxc.registry", "tfxc.training.job"} <= found


def test_the_document_names_every_layer():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"\w+", text.split("Imports point down only:")[1].split("`tests/")[0]))
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert folders <= listed


def test_light_modules_do_not_import_tensorflow():
    verbs = [f"tfxc.{verb}" for verb in VERBS if (PACKAGE / f"{verb}.py").exists()]
    code = f"import {', '.join(LIGHT + verbs)}, sys\n"
    code += "from tfxc import registry\n"
    code += "assert all(registry.names(kind) for kind in registry.KINDS)\n"
    code += "print([m for m in ('tensorflow', 'keras', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_lazy_names_lead_somewhere():
    for name in ("XCModel", "load_config", "load_model", "load_run", "register_all"):
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
