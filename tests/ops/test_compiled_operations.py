"""That operations compile with the flags of every class of processors."""

import platform
import shutil
import subprocess

import pytest

from tfxc.ops import compiled_operations
from tfxc.ops.fused.stochastic_rounding import rounded_descent
from tfxc.ops.training_step import adam


@pytest.mark.skipif(platform.machine() != "x86_64", reason="cross-compiles for x86-64 processors")
# The last has the features of the others, and those that TensorFlow's headers know besides.
@pytest.mark.parametrize(
    "processor",
    [
        pytest.param("x86-64-v3", marks=pytest.mark.slow),
        pytest.param("x86-64-v4", marks=pytest.mark.slow),
        "sapphirerapids",
    ],
)
def test_compiles_for_every_processor(processor, tmp_path, request):
    """As a machine with this processor would, where CXX holds ``-march=native``.

    TensorFlow's headers take most of the time, so both sources are read in one go, and what has
    compiled here with the same compiler, flags and TensorFlow is not compiled again.
    """
    compiler = compiled_operations._compiler()
    if compiler is None:
        pytest.skip("there is no C++ compiler here")
    compiler = [*compiler, f"-march={processor}"]
    read = subprocess.run([*compiler, "-E", "-x", "c++", "/dev/null"], capture_output=True)
    if read.returncode:
        pytest.skip(f"{compiler[0]} does not know {compiler[1]}")
    sources = (adam.source, rounded_descent.source)
    prints = [compiled_operations._fingerprint(compiler, source) for source in sources]
    known, key = getattr(request.config, "cache", None), "/".join(["compiles", *prints])
    if known is not None and known.get(key, False):
        return
    both = tmp_path / "both.cc"
    both.write_text("".join(f'#include "{source}"\n' for source in sources))
    command = compiled_operations._command(compiler, both, tmp_path / "unused.so")
    done = subprocess.run([*command, "-fsyntax-only"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if known is not None:
        known.set(key, True)


def test_no_flag_depends_on_the_processor():
    command = compiled_operations._command(["g++"], adam.source, "made.so")
    assert not [part for part in command if part.startswith(("-march", "-mtune", "-mcpu"))]


@pytest.mark.usefixtures("compiled_operations")
def test_loops_are_compiled_for_each_class_of_processors(tmp_path):
    """The clones are there: without them, all loops run with the registers of the year 2003."""
    version = subprocess.run(["g++", "-dumpversion"], capture_output=True, text=True).stdout
    compiler = compiled_operations._compiler()
    if platform.machine() != "x86_64" or compiler != ["g++"] or int(version.split(".")[0]) < 12:
        pytest.skip("clones are made by GCC from version 12 on, for x86-64")
    for operation in (adam, rounded_descent):
        library = compiled_operations._library(compiler, operation.source, operation.what)
        content = library.read_bytes()
        assert b"arch_x86_64_v3" in content and b"arch_x86_64_v4" in content


@pytest.mark.usefixtures("compiled_operations")
def test_a_process_loads_an_operation_once(tmp_path, monkeypatch):
    """TensorFlow takes no second one of the name, as a library in another cache would bring."""
    first = adam.get()
    compiler = compiled_operations._compiler()
    library = compiled_operations._library(compiler, adam.source, adam.what)
    shutil.copy(library, tmp_path)
    monkeypatch.setenv("TFXC_CACHE", str(tmp_path))
    assert compiled_operations._library(compiler, adam.source, adam.what).parent == tmp_path
    adam.forget()
    assert adam.get() is first
