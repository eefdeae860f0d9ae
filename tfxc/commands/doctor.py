"""Show what tfxc finds on this machine: versions, devices, extensions, extras, memory, disk.

    tfxc doctor
    tfxc doctor --json
    tfxc doctor --device-check

The last column of a missing extra is the command that installs it. Please include the output when
you report a problem.

``--device-check`` computes one step of training and one search of every head, objective and encoder
on the first GPU and on the CPU, with small models: a few minutes. It fails where they differ.
"""

import dataclasses
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from tfxc.core.command_options import parse
from tfxc.core.errors import distribution
from tfxc.core.escaping import json_text

_NEEDED = ("tensorflow", "keras", "numpy", "scipy", "scikit-learn", "pydantic")
# A requirement of an extra: the package, the package's own extra, and the extra.
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[([\w-]+)\])?.*\bextra\s*==\s*['\"]([\w-]+)['\"]")
_LISTED = 4  # missing packages of an extra
_DEVELOPER_EXTRAS = {"test", "lint", "docs"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options of ``tfxc doctor``.

    Attributes:
        json: print the findings as JSON.
        device_check: compare what the first GPU computes with what the CPU computes.
    """

    json: bool = False
    device_check: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Prints what was found; returns 1 if a GPU and the CPU differ."""
    options = parse(Options, argv, "doctor", __doc__)
    state = findings()
    if not options.json:
        print("\n".join(_lines(state)))
    if options.device_check:
        state["device_check"] = _device_check(sys.stderr if options.json else sys.stdout)
    if options.json:
        print(json_text(state, indent=2))
    cases = state.get("device_check", {}).get("cases", [])
    return 0 if all(case["ok"] for case in cases) else 1


def findings() -> dict[str, Any]:
    """Returns what there is, as a nested dict that JSON can hold."""
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


def _devices() -> list[str]:
    """Returns names of TensorFlow's devices, or why there are none."""
    try:
        import tensorflow as tf
    except (ImportError, OSError, RuntimeError) as error:  # broken: this is to be shown
        return [f"TensorFlow cannot be imported: {error}"]
    return [
        device.name.removeprefix("/physical_device:")
        for device in tf.config.list_physical_devices()
    ]


def _device_check(stream: TextIO) -> dict[str, Any]:
    """Returns the first GPU and what it computes otherwise than the CPU.

    Args:
        stream: where each case is printed when it is done: they take minutes together.
    """
    cases: list[dict[str, Any]] = []
    try:
        from tfxc.training.device_check import compared, first_gpu
    except (ImportError, OSError, RuntimeError):  # shown by the devices
        gpu = None
    else:
        gpu = first_gpu()
    if gpu is None:
        print("device check: TensorFlow uses no GPU, so nothing was compared", file=stream)
        return {"device": None, "model": None, "cases": cases}
    device, model = gpu
    print(f"device check of {device}, {model}", file=stream)
    for case in compared(device):
        cases.append(case)
        print(_case_line(case), file=stream, flush=True)
    failed = sum(not case["ok"] for case in cases)
    skipped = sum("skipped" in case for case in cases)
    print(f"  {len(cases)} cases: {failed} failed, {skipped} skipped", file=stream)
    return {"device": device, "model": model, "cases": cases}


def _case_line(case: dict[str, Any]) -> str:
    """Returns a row of the table of ``--device-check``."""
    name = f"{case['case']} ({case['precision']})"
    for status in ("skipped", "failed"):
        if status in case:
            return f"  {name:62} {status}: {case[status]}"
    memory = "" if case["peak_mb"] is None else f", peak {case['peak_mb']:,} MB"
    host = sum(case["host_operations"].values())
    line = (
        f"  {name:62} difference {case['difference']:7.1e} of {case['limit']:g}, "
        f"{host:3} operations on the host{memory}, step {case['step_ms']:.1f} ms, "
        f"search {case['search_ms']:.1f} ms"
    )
    return line if case["ok"] else f"{line}, FAILED: {case['where']}"


def _extensions() -> dict[str, bool]:
    """Returns {module of a compiled extension: whether it can be imported}."""
    root = Path(__file__).parents[1]
    modules = {
        ".".join(path.relative_to(root.parent).with_name(path.name.split(".")[0]).parts)
        for path in [*root.rglob("*.pyx"), *_compiled(root)]
    }
    imports = dict.fromkeys(sorted(modules), True)
    for name in imports:
        try:
            importlib.import_module(name)
        except ImportError:
            imports[name] = False
    return imports


def _compiled_operations() -> dict[str, str | None]:
    """Returns {operation compiled for TensorFlow: None if there is one, else why not}.

    Compiles what is not there yet, also what has failed before.
    """
    try:
        from tfxc.ops.fused.stochastic_rounding import rounded_descent
        from tfxc.ops.training_step import adam, sigmoid_loss
    except (ImportError, OSError, RuntimeError):  # shown by the devices
        return {}
    for operation in (adam, sigmoid_loss, rounded_descent):
        operation.get(retry=True)
    return {
        operation.what: operation.problem for operation in (adam, sigmoid_loss, rounded_descent)
    }


def _compiled(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.suffix in (".so", ".pyd")]


def _extras() -> dict[str, dict[str, str | None]]:
    """Returns {extra: {package: version, None if it is missing}} of this installation."""
    try:
        required = importlib.metadata.requires(distribution()) or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    extras: dict[str, dict[str, str | None]] = {}
    for line in required:
        named = _REQUIREMENT.match(line)
        if named and named[3] not in _DEVELOPER_EXTRAS:
            names = _added(named[1], named[2]) or [named[1]]
            extras.setdefault(named[3], {}).update({name: _version(name) for name in names})
    return extras


def _added(package: str, extra: str | None) -> list[str]:
    """Returns what an extra of an installed package adds to it, as CUDA to TensorFlow."""
    if extra is None or _version(package) is None:
        return []
    parts = map(_REQUIREMENT.match, importlib.metadata.requires(package) or [])
    return [named[1] for named in parts if named and named[3] == extra]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _lines(state: dict[str, Any]) -> Iterator[str]:
    yield f"tfxc {state['tfxc']}, Python {state['python']}, {state['system']}"
    yield "packages"
    for name, version in state["packages"].items():
        yield f"  {name:14} {version or 'missing'}"
    yield f"devices: {', '.join(state['devices'])}"
    missing = [name for name, there in state["extensions"].items() if not there]
    there = len(state["extensions"]) - len(missing)
    yield f"compiled extensions: {there} of {len(state['extensions'])}" + (
        f"; without {', '.join(missing)}, NumPy and scikit-learn do the same work more slowly"
        if missing
        else ""
    )
    for what, problem in state["compiled_operations"].items():
        status = f"TensorFlow's, slower: {problem}" if problem else "compiled"
        yield f"{what}: {status}"
    yield "extras"
    for extra, packages in sorted(state["extras"].items()):
        absent = [name for name, version in packages.items() if version is None]
        more = f" and {len(absent) - _LISTED} others" if len(absent) > _LISTED else ""
        status = f"missing {', '.join(absent[:_LISTED])}{more}" if absent else "installed"
        yield f"  {extra:14} {status}" + (
            f"; pip install '{distribution()}[{extra}]'" if absent else ""
        )
    if not state["extras"]:
        yield f"  not known: tfxc is not installed for {sys.executable}"
    yield f"{state['cores']} cores, {state['memory_available_gb']} GB of memory available"
    yield f"{state['disk_free_gb']} GB free on the disk of {Path.cwd()}"
