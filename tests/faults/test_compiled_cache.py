"""The cache of the compiled optimizer step: damaged files, other users, odd compilers."""

import os
import subprocess
import sys

import pytest

from tests.source_tree import ROOT
from tfxc.core import resources
from tfxc.core.errors import UserError
from tfxc.ops import compiled_operations
from tfxc.ops.training_step import adam

FAKE = """#!/bin/sh
if [ "$1" = --version ]; then echo fake 1; exit; fi
echo compiled >> "{log}"
while [ $# -gt 0 ]; do if [ "$1" = -o ]; then echo "a library" > "$2"; fi; shift; done
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A new cache, a compiler that writes a short text, and a function that counts its runs."""
    script, log = tmp_path / "my compiler", tmp_path / "log"
    script.write_text(FAKE.format(log=log))
    script.chmod(0o755)
    folder = tmp_path / "cache"
    monkeypatch.setenv("TFXC_CACHE", str(folder))
    monkeypatch.setenv("CXX", f"env '{script}'")
    return folder, lambda: len(log.read_text().splitlines()) if log.exists() else 0


def library():
    compiler = compiled_operations._compiler()
    return compiled_operations._library(compiler, adam.source, "optimizer step")


def test_a_compiler_with_arguments_is_split_as_a_shell_does(cache, monkeypatch):
    path = library()
    assert path.parent == cache[0] and path.read_text() == "a library\n"
    monkeypatch.setenv("CXX", "no-such-launcher g++")
    assert compiled_operations._compiler() is None
    monkeypatch.setenv("CXX", "'unbalanced")
    assert compiled_operations._compiler() is None
    monkeypatch.setenv("CXX", "")
    assert compiled_operations._compiler() in (None, ["g++"])


@pytest.mark.parametrize("damage", ["cut off", "empty", "other bytes"])
def test_a_damaged_library_is_made_anew(cache, damage):
    folder, runs = cache
    path = library()
    assert library() == path and runs() == 1
    path.write_text({"cut off": "a lib", "empty": "", "other bytes": "b library\n"}[damage])
    assert library() == path and path.read_text() == "a library\n" and runs() == 2
    assert len(list(folder.glob("*.so"))) == 1


def test_a_compilation_that_dies_leaves_no_library(cache, monkeypatch):
    def dies(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", dies)
    with pytest.raises(KeyboardInterrupt):
        library()
    assert [path.suffix for path in cache[0].iterdir()] == [".lock"]


def test_a_library_of_another_user_is_not_loaded(cache, monkeypatch):
    path = library()
    owner = os.getuid() or 12345  # files of root are trusted: let them be somebody's
    real = type(path).stat

    def somebodys(self, **options):
        found = list(real(self, **options))
        found[4] = owner + 1 if self == path else found[4]
        return os.stat_result(found)

    monkeypatch.setattr(type(path), "stat", somebodys)
    with pytest.raises(UserError, match="belongs to another user"):
        library()
    loaded = []
    monkeypatch.setattr(compiled_operations.tf, "load_op_library", loaded.append)
    adam.forget()
    assert adam.get() is None and not loaded
    assert f"{path}: belongs to another user" in adam.problem
    adam.forget()


@pytest.mark.parametrize("mode", [0o646, 0o664, 0o777])
def test_a_library_others_may_write_to_is_not_loaded(cache, mode):
    path = library()
    path.chmod(mode)
    with pytest.raises(UserError, match="other users may write to it") as caught:
        library()
    assert caught.value.where == path
    path.chmod(0o644)
    assert library() == path


def test_a_folder_anybody_may_write_to_is_refused(cache):
    folder, runs = cache
    library()
    folder.chmod(0o777)
    with pytest.raises(UserError, match="other users may write to it"):
        library()
    folder.chmod(0o1777)  # as /tmp
    library()
    assert runs() == 1


@pytest.mark.parametrize(
    ("cpuinfo", "other"),
    [
        ("model name\t: AMD EPYC\nflags\t: fma\n", "model name\t: Xeon\nflags\t: fma\n"),
        ("CPU variant\t: 0x1\nCPU part\t: 0xd0c\n", "CPU variant\t: 0x1\nCPU part\t: 0xd40\n"),
        ("Features\t: fp asimd\n", "Features\t: fp asimd sve\n"),
        ("cpu\t\t: POWER9, altivec supported\n", "cpu\t\t: POWER10, altivec supported\n"),
        ("isa\t: rv64imafdc\n", "isa\t: rv64imafdcv\n"),
    ],
    ids=["x86", "arm", "arm features", "power", "riscv"],
)  # fmt: skip
def test_the_key_holds_the_processors_name(monkeypatch, cpuinfo, other):
    names = {resources._described(text) for text in (cpuinfo, other)}
    assert len(names) == 2
    volatile = "processor\t: 0\ncpu MHz\t\t: {}\nbogomips\t: {}\n"
    texts = (cpuinfo + volatile.format(number, number) for number in (1, 2))
    assert len({resources._described(text) for text in texts}) == 1
    keys = []
    for text in (cpuinfo, other):
        monkeypatch.setattr(
            compiled_operations, "processor", lambda text=text: resources._described(text)
        )
        keys.append(compiled_operations._fingerprint(["true"], adam.source))
    assert keys[0] != keys[1]


FAILING = """#!/bin/sh
if [ "$1" = --version ]; then echo fake 1; exit; fi
echo tried >> "{log}"
echo "In file included from here:" >&2
echo "there.h:740:49: error: expected initializer" >&2
echo "      |         ^" >&2
exit 1
"""


def test_what_does_not_compile_is_not_tried_again(tmp_path, monkeypatch, caplog):
    script = tmp_path / "compiler"
    log = tmp_path / "log"
    script.write_text(FAILING.format(log=log))
    script.chmod(0o755)
    monkeypatch.setenv("TFXC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", str(script))
    for _ in range(2):
        caplog.clear()
        adam.forget()
        assert adam.get() is None
        assert "there.h:740:49: error: expected initializer" in adam.problem
        assert f"using TensorFlow's {adam.what} instead" in caplog.text
    assert log.read_text() == "tried\n"
    adam.forget()
    assert adam.get(retry=True) is None  # as `tfxc doctor` asks
    assert log.read_text() == "tried\ntried\n"
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".lock", ".failed"}
    monkeypatch.setenv("CXX", f"env ANOTHER=1 {script}")
    adam.forget()
    assert adam.get() is None
    assert log.read_text() == "tried\ntried\ntried\n", "another command may do better"
    adam.forget()


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_operations")
def test_a_real_library_cut_off_does_not_end_the_process(tmp_path):
    environment = {**os.environ, "TFXC_CACHE": str(tmp_path), "PYTHONPATH": str(ROOT)}
    environment.pop("CXX", None)
    code = "from tfxc.ops.training_step import adam\nprint(adam.get() is not None)"
    for _ in range(2):
        result = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        assert (result.returncode, result.stdout) == (0, "True\n"), result.stderr
        (path,) = tmp_path.glob("*.so")
        with open(path, "r+b") as stream:
            stream.truncate(path.stat().st_size // 2)
