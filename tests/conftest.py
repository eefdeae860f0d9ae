"""What all tests share: data folders, the choice of slow tests, a clean Keras."""

import gc
import os
import runpy
import sys

import pytest

# Results differ in the last bits with and without oneDNN; chosen before TensorFlow is imported.
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Threads of the native code sleep between two loops: two test processes share the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Tests check words, not colours or line lengths of the terminal they happen to run in.
os.environ.setdefault("COLUMNS", "100")

pytest.register_assert_rewrite("tests.contracts")

from tests import folders  # noqa: E402
from tests.commands.calls import Outcome  # noqa: E402
from tests.source_tree import ROOT  # noqa: E402
from tfxc.core.messages import printed  # noqa: E402


def pytest_collection_modifyitems(config, items):
    """Leaves tests marked ``slow`` out unless ``-m`` says something about them.

    The general tests of a contract are slow for the variants of a method, see
    ``tests.contracts.general``. The file that takes longest comes first, so that no process works
    on it alone at the end.
    """
    for item in items:
        if getattr(item.cls, "variant", False) and item.get_closest_marker("general"):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.path.name != "test_two_workers.py")
    if "slow" in config.getoption("markexpr"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


def pytest_collection_finish():
    """What all tests have imported stays: the garbage collector need not look at it again.

    TensorFlow, Keras and the tests are a million objects, and a collection is asked for often:
    tracing a graph makes many objects that stay.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@pytest.fixture
def data_folder():
    """A function: name of a real data set -> its folder; skips where there is none."""
    return folders.data_folder


@pytest.fixture
def tool(monkeypatch):
    """A function: name of a tool -> its module."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return __import__


@pytest.fixture
def program(capsys, monkeypatch):
    """A function (name of a tool, arguments): runs it as a program, in this process."""

    def run(name, *arguments):
        path = ROOT / "tools" / f"{name}.py"
        monkeypatch.setattr("sys.argv", [str(path), *map(str, arguments)])
        monkeypatch.syspath_prepend(str(path.parent))  # as an interpreter does
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(str(path), run_name="__main__")
        return Outcome(caught.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def memory(monkeypatch, tmp_path):
    """fsspec's file system in memory, empty; copies of its files go into a folder of their own."""
    fsspec = pytest.importorskip("fsspec", reason="the extra remote is not installed")
    from fsspec.implementations.memory import MemoryFileSystem

    monkeypatch.setenv("TFXC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    return fsspec.filesystem("memory")


@pytest.fixture
def golden_folder():
    """The folder of golden results; skips where there is none."""
    return folders.golden_folder()


@pytest.fixture
def compiled_operations():
    """Skips where TensorFlow operations cannot be compiled, with the reason.

    That they can, with any processor's flags, is what ``tests/ops/test_compiled_operations.py``
    says.
    """
    from tfxc.ops.fused.stochastic_rounding import rounded_descent
    from tfxc.ops.training_step import adam, sigmoid_loss

    for operation in (adam, sigmoid_loss, rounded_descent):
        operation.forget()
        if operation.get() is None:
            pytest.skip(f"{operation.what}: {operation.problem}")
    yield
    for operation in (adam, sigmoid_loss, rounded_descent):
        operation.forget()


@pytest.fixture(autouse=True, scope="session")
def _files_may_be_lost_with_the_power():
    """Files of tests are gone soon: to wait for the disk, each time for milliseconds, is idle."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture
def memory_estimated_once(monkeypatch):
    """The memory of the first training that is planned is said of all: tracing takes seconds."""
    from tfxc.training.memory import estimate

    once, found = estimate.estimate, []

    def first(*arguments, **data_dependent):
        if not found:
            found.append(once(*arguments, **data_dependent))
        return found[0]

    monkeypatch.setattr(estimate, "estimate", first)


@pytest.fixture(scope="session")
def quick_database():
    """Nor does SQLite, by which Optuna keeps its trials, wait for the disk."""
    pytest.importorskip("sqlalchemy", reason="the extra search is not installed")
    from sqlalchemy import engine, event

    def connected(connection, _):
        connection.execute("PRAGMA synchronous=OFF")

    event.listen(engine.Engine, "connect", connected)
    yield
    event.remove(engine.Engine, "connect", connected)


@pytest.fixture(autouse=True)
def _messages_are_printed():
    """As in a command: tests call the ``main`` of one, or what it calls, directly."""
    with printed():
        yield


@pytest.fixture(autouse=True)
def _float32_policy():
    """``build_model`` sets Keras' global precision; the next test begins with float32 again."""
    yield
    keras = sys.modules.get("keras")
    if keras is not None:
        keras.config.set_dtype_policy("float32")
