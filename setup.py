"""Builds the native extensions and names the packages; the metadata are in setup.cfg.

TFXC_NO_OPENMP=1 builds without OpenMP (one thread); TFXC_NO_EXTENSION=1 leaves the extensions out:
Python cuts texts then, NumPy searches, and scikit-learn solves linear rankers. TFXC_LIGHT=1 names
the package tfxc-light and leaves out what linear rankers do without: TensorFlow, and what comes
with it or is seldom used; tfxc/core/missing_packages.py then says what to install.
"""

import os
import re
import shutil
import sys
from glob import glob
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.dist import Distribution

OPS = "tfxc/ops"
LEFT_OUT = {"tensorflow", "keras", "h5py", "protobuf", "scikit-learn"}  # of tfxc-light
# Folders of the top level that users need: in a wheel they are inside the package.
SHIPPED = {"configs": ["*.json"], "examples": ["*.py", "*.sbatch", "*.yaml"], "tools": ["*.py"]}


class LightDistribution(Distribution):
    """The package without TensorFlow; setup.cfg has the last word on what is given to setup()."""

    def parse_config_files(self, *arguments, **options):
        super().parse_config_files(*arguments, **options)
        self.metadata.name = "tfxc-light"
        self.install_requires = [
            line for line in self.install_requires if re.match(r"[\w-]+", line)[0] not in LEFT_OUT
        ]
        self.metadata.install_requires = self.install_requires


class BuildPython(build_py):
    """Copies what is shipped into wheels; an editable installation has it at the top level."""

    def run(self):
        super().run()
        for folder, patterns in ({} if self.editable_mode else SHIPPED).items():
            for path in sorted(path for one in patterns for path in Path(folder).rglob(one)):
                target = Path(self.build_lib, "tfxc", path)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)


def extensions():
    if os.environ.get("TFXC_NO_EXTENSION"):
        return []
    # macOS ships a compiler without OpenMP; the kernel then runs on one thread.
    openmp = [] if os.environ.get("TFXC_NO_OPENMP") or sys.platform == "darwin" else ["-fopenmp"]
    # Each product is rounded before it is added, on every processor: the same numbers as NumPy's.
    exact = [] if sys.platform == "win32" else ["-ffp-contract=off"]
    strip = ["-Wl,--strip-all"] if sys.platform == "linux" else []
    headers = [*glob(f"{OPS}/**/*.pxd", recursive=True), *glob(f"{OPS}/**/*.h", recursive=True)]
    kernels = [
        Extension(
            path.removesuffix(".pyx").replace("/", "."),
            [path],
            depends=headers,
            extra_compile_args=["-O3", *exact, *openmp],
            extra_link_args=[*openmp, *strip],
            optional=True,
        )
        for path in sorted(glob(f"{OPS}/**/*.pyx", recursive=True))
    ]
    return cythonize(kernels, language_level=3, build_dir="build")


setup(
    distclass=LightDistribution if os.environ.get("TFXC_LIGHT") else Distribution,
    ext_modules=extensions(),
    packages=find_packages(include=["tfxc", "tfxc.*"]),
    package_data={"": ["*.cc", "_clones.h", "*.pyi", "*.html"], "tfxc.reports": ["templates/*"]},
    cmdclass={"build_py": BuildPython},
)
