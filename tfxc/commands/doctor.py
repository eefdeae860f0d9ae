"""Show what tfxc finds on this machine: versions, devices, extensions, extras, memory, disk.

    tfxc doctor
    tfxc doctor --json

The last column of a missing extra is the command that installs it. Please add the output to reports
of problems.
"""

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfxc.core import cli
from tfxc.core.escaping import json_text

_NEEDED = ("tensorflow", "keras", "numpy", "scipy", "scikit-learn", "pydantic")
# Extras of developers only.
# A requirement of an extra: the package, the package's own extra, and the extra.
_OF_EXTRA = re.compile(r"([A-Za-z0-9._-]+)(?:\[([\w-]+)\])?.*\bextra\s*==\s*['\"]([\w-]+)['\"]")
_LISTED = 4  # missing packages of an extra
_OF_DEVELOPERS = {"test", "lint", "docs"}


def main(argv: Sequence[str] | None = None) -> int:
    """Prints what was found."""
    options = _parser().parse_args(argv)
    found = findings()
    print(json_text(found, indent=2) if options.json else "\n".join(_lines(found)))
    return 0


def findings() -> dict[str, Any]:
    """What there is, as a nested dict that JSON can hold."""
    from tfxc.core.resources import available_bytes
    from tfxc.version import __version__

    return {
        "tfxc": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {name: _version(name) for name in _NEEDED},
        "devices": _devices(),
        "extensions": _extensions(),
        "compiled_operations": _compiled_operations(),
        "extras": _extras(),
        "cores": os.cpu_count(),
        "memory_available_gb": round(available_bytes() / 2**30, 1),
        "disk_free_gb": round(shutil.disk_usage(Path.cwd()).free / 2**30, 1),
    }


def _devices():
    """Names of TensorFlow's devices, or why there are none."""
    try:
        import tensorflow as tf
    except (ImportError, OSError, RuntimeError) as error:  # broken: this is to be shown
        return [f"TensorFlow cannot be imported: {error}"]
    return [
        device.name.removeprefix("/physical_device:")
        for device in tf.config.list_physical_devices()
    ]


def _extensions():
    """{module of a compiled extension: whether it can be imported}."""
    root = Path(__file__).parents[1]
    sources = [*root.rglob("*.pyx"), *_compiled(root)]
    modules = {_module(path, root) for path in sources}
    return {name: _imports(name) for name in sorted(modules)}


def _compiled_operations():
    """{operation compiled for TensorFlow: None if there is one, else why not}.

    Compiles what is not there yet, also what has failed before.
    """
    try:
        from tfxc.ops.fused.stochastic_rounding import rounded_descent
        from tfxc.training.optimization.row_adam import row_adam
    except (ImportError, OSError, RuntimeError):  # shown by the devices
        return {}
    for operation in (row_adam, rounded_descent):
        operation.get(retry=True)
    return {operation.what: operation.problem for operation in (row_adam, rounded_descent)}


def _compiled(root):
    return [path for path in root.rglob("*") if path.suffix in (".so", ".pyd")]


def _module(path, root):
    parts = path.relative_to(root.parent).with_name(path.name.split(".")[0]).parts
    return ".".join(parts)


def _imports(name):
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def _extras():
    """{extra: {package: version, None if it is missing}}, of this installation's metadata."""
    try:
        required = importlib.metadata.requires("tfxc") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found: dict[str, dict[str, str | None]] = {}
    for line in required:
        named = _OF_EXTRA.match(line)
        if named and named[3] not in _OF_DEVELOPERS:
            names = _added(named[1], named[2]) or [named[1]]
            found.setdefault(named[3], {}).update({name: _version(name) for name in names})
    return found


def _added(package, extra):
    """What an extra of an installed package adds to it, as CUDA to TensorFlow."""
    if extra is None or _version(package) is None:
        return []
    parts = map(_OF_EXTRA.match, importlib.metadata.requires(package) or [])
    return [named[1] for named in parts if named and named[3] == extra]


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _lines(found):
    yield f"tfxc {found['tfxc']}, Python {found['python']}, {found['system']}"
    yield "packages"
    for name, version in found["packages"].items():
        yield f"  {name:14} {version or 'missing'}"
    yield f"devices: {', '.join(found['devices'])}"
    missing = [name for name, there in found["extensions"].items() if not there]
    there = len(found["extensions"]) - len(missing)
    yield f"compiled extensions: {there} of {len(found['extensions'])}" + (
        f"; without {', '.join(missing)}, NumPy and scikit-learn do the same work more slowly"
        if missing
        else ""
    )
    for what, problem in found["compiled_operations"].items():
        state = f"TensorFlow's, slower: {problem}" if problem else "compiled"
        yield f"{what}: {state}"
    yield "extras"
    for extra, packages in sorted(found["extras"].items()):
        absent = [name for name, version in packages.items() if version is None]
        more = f" and {len(absent) - _LISTED} others" if len(absent) > _LISTED else ""
        state = f"missing {', '.join(absent[:_LISTED])}{more}" if absent else "installed"
        yield f"  {extra:14} {state}" + (f"; pip install 'tfxc[{extra}]'" if absent else "")
    if not found["extras"]:
        yield f"  not known: tfxc is not installed for {sys.executable}"
    yield f"{found['cores']} cores, {found['memory_available_gb']} GB of memory available"
    yield f"{found['disk_free_gb']} GB free on the disk of {Path.cwd()}"


def _parser():
    options = cli.parser("doctor", __doc__)
    options.add_argument("--json", action="store_true", help="print it as JSON")
    return options
