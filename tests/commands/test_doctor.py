"""The command doctor."""

import importlib.metadata
import json
import platform

from tests.commands.calls import call
from tests.source_tree import ROOT
from tfxc.commands import doctor
from tfxc.ops.compiled_operations import CompiledOperation


def test_what_is_found(capsys):
    found = json.loads(call(capsys, doctor, "--json").out)
    assert found["python"] == platform.python_version()
    assert found["packages"]["numpy"] == importlib.metadata.version("numpy")
    assert "CPU:0" in found["devices"]
    sources = (ROOT / "tfxc").rglob("*.pyx")
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sources}
    assert modules and modules <= set(found["extensions"])
    assert found["memory_available_gb"] > 0 and found["disk_free_gb"] > 0


def test_a_missing_extra_comes_with_its_command(capsys, monkeypatch):
    monkeypatch.setattr(
        importlib.metadata,
        "requires",
        lambda _: ["numpy>=2", "no-such-package>=1; extra == 'zh'", 'numpy; extra == "vision"'],
    )
    lines = [line.split(maxsplit=1) for line in call(capsys, doctor).out.splitlines()]
    found = {words[0]: words[1] for words in lines if len(words) == 2}
    assert found["zh"] == "missing no-such-package; pip install 'tfxc[zh]'"
    assert found["vision"] == "installed"


def test_an_extra_of_a_package_is_what_it_adds(capsys, monkeypatch):
    required = {
        "tfxc": ["numpy[fast]>=2; extra == 'gpu'", "numpy[other]; extra == 'zh'"],
        "numpy": [f"no-such-package-{n}; extra == 'fast'" for n in range(6)] + ["scipy"],
    }
    monkeypatch.setattr(importlib.metadata, "requires", required.get)
    lines = [line.split(maxsplit=1) for line in call(capsys, doctor).out.splitlines()]
    found = {words[0]: words[1] for words in lines if len(words) == 2}
    names = ", ".join(f"no-such-package-{n}" for n in range(4))
    assert found["gpu"] == f"missing {names} and 2 others; pip install 'tfxc[gpu]'"
    assert found["zh"] == "installed", "an extra that numpy does not have"


def test_operations_that_do_not_compile_are_listed(capsys, monkeypatch, tmp_path):
    script = tmp_path / "compiler"
    script.write_text("#!/bin/sh\necho 'a.h:7:1: error: no such type' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    monkeypatch.setenv("TFXC_CACHE", str(tmp_path / "cache"))
    for operation in CompiledOperation.all:
        operation.forget()
    lines = call(capsys, doctor).out.splitlines()
    for operation in CompiledOperation.all:
        operation.forget()
    assert "optimizer step: TensorFlow's, slower: a.h:7:1: error: no such type" in lines
