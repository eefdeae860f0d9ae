"""What tfxc says where packages are missing that tfxc-light comes without."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.source_tree import ROOT
from tfxc.core.errors import ConfigError, missing_package

# Like an environment without TensorFlow: no finder finds it.
WITHOUT = """
import importlib.util, sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "keras"):
            return None
        return self.finder.find_spec(name, path, target)
sys.meta_path[:] = map(Without, sys.meta_path)
"""
COMMAND = """
from tfxc.__main__ import main
main(["train", "t.csv", "--set", "encoder=fasttext"])
"""
IN_PYTHON = """
import tfxc
assert importlib.util.find_spec("tensorflow") is None  # as whoever only asks
try:
    import tensorflow  # by others than tfxc
except ModuleNotFoundError as error:
    print(f"{type(error).__name__}: {error}")
for name in ("XCModel", "load_model"):
    try:
        getattr(tfxc, name)
    except ValueError as error:
        print(f"{name}: {error}", isinstance(error, ModuleNotFoundError))
"""
MESSAGE = r"the package (keras|tensorflow) is not installed\. Install it: pip install tfxc\."
TABLE = "text,label\n" + "red fox,animal\nblue sea,water\ngreen tree,plant\n" * 20


def run(*command, folder, **more):
    env = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, cwd=folder, env=env
    )


def test_a_command_that_trains_a_network(tmp_path):
    (tmp_path / "t.csv").write_text(TABLE)
    done = run(sys.executable, "-c", WITHOUT + COMMAND, folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(f"tfxc: {MESSAGE}", done.stderr.splitlines()[-1])
    assert "Traceback" not in done.stderr


def test_in_python(tmp_path):
    done = run(sys.executable, "-c", WITHOUT + IN_PYTHON, folder=tmp_path)
    others, *own = done.stdout.splitlines()
    assert others == "ModuleNotFoundError: No module named 'tensorflow'", done.stderr
    for name, line in zip(("XCModel", "load_model"), own, strict=True):
        assert re.fullmatch(f"{name}: {MESSAGE} True", line)


@pytest.mark.parametrize(
    ("installed", "name"),
    [([], "tfxc"), (["tfxc"], "tfxc"), (["tfxc-light"], "tfxc-light"),
     (["tfxc", "tfxc-light"], "tfxc")],
)  # fmt: skip
def test_extras_are_those_of_what_is_installed(monkeypatch, installed, name):
    monkeypatch.setattr(
        importlib.metadata, "distributions", lambda name: iter([name] * (name in installed))
    )
    with (
        pytest.raises(ConfigError, match=rf"pip install '{name}\[report\]'"),
        missing_package("report"),
    ):
        raise ImportError(name="jinja2")


@pytest.mark.slow  # quick: the tests above
@pytest.mark.timeout(3600)
def test_tfxc_light_in_an_environment_of_its_own(tmp_path):
    """Builds and installs it as users do, so an index of packages has to be reached."""
    ignored = shutil.ignore_patterns(".*", "build", "*.so", "*.egg-info")
    shutil.copytree(ROOT, tmp_path / "source", ignore=ignored)
    (tmp_path / "t.csv").write_text(TABLE)
    python = tmp_path / "environment" / "bin" / "python"
    run(sys.executable, "-m", "venv", tmp_path / "environment", folder=tmp_path)
    outside = {"TFXC_LIGHT": "1", "PYTHONPATH": ""}
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    reached = run(*pip, "download", "--no-deps", "annotated-types", folder=tmp_path, **outside)
    if reached.returncode:
        pytest.skip("pip reaches no index of packages")
    done = run(*pip, "install", "./source", folder=tmp_path, **outside)
    assert not done.returncode, done.stderr
    listed = run(*pip, "list", "--format=freeze", folder=tmp_path, **outside).stdout
    names = {line.partition("==")[0].lower() for line in listed.splitlines()}
    assert "tfxc-light" in names
    assert not names & {"tfxc", "tensorflow", "keras", "h5py", "protobuf", "scikit-learn"}
    tfxc = [python, "-m", "tfxc"]
    network = run(*tfxc, "train", "t.csv", "--set", "encoder=fasttext", folder=tmp_path, **outside)
    assert re.fullmatch(f"tfxc: {MESSAGE}", network.stderr.splitlines()[-1])
    linear = run(*tfxc, "train", "t.csv", "--preset", "fast", folder=tmp_path, **outside)
    assert not linear.returncode, linear.stderr
    found = run(*tfxc, "predict", "runs/t", "t.csv", folder=tmp_path, **outside)
    assert found.stdout.count("animal") >= 20, found.stderr
    doctor = run(*tfxc, "doctor", folder=tmp_path, **outside)
    assert "pip install 'tfxc-light[report]'" in doctor.stdout, doctor.stderr
