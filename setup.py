"""Builds the native extensions and names the packages; the metadata are in setup.cfg.

TFXC_NO_OPENMP=1 builds without OpenMP (one thread); TFXC_NO_EXTENSION=1 leaves the extensions out,
and the NumPy path of the same functions is used.
"""

import os
import sys
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup

OPS = "tfxc/ops"
# What users need and what stands at the top level goes into the wheel under these names.
SHIPPED = {"tfxc.configs": "configs", "tfxc.examples": "examples", "tfxc.tools": "tools"}


def extensions():
    if os.environ.get("TFXC_NO_EXTENSION"):
        return []
    # macOS ships a compiler without OpenMP; the kernel then runs on one thread.
    openmp = [] if os.environ.get("TFXC_NO_OPENMP") or sys.platform == "darwin" else ["-fopenmp"]
    strip = ["-Wl,--strip-all"] if sys.platform == "linux" else []
    headers = [*glob(f"{OPS}/**/*.pxd", recursive=True), *glob(f"{OPS}/**/*.h", recursive=True)]
    kernels = [
        Extension(
            path.removesuffix(".pyx").replace("/", "."),
            [path],
            depends=headers,
            extra_compile_args=["-O3", *openmp],
            extra_link_args=[*openmp, *strip],
            optional=True,
        )
        for path in sorted(glob(f"{OPS}/**/*.pyx", recursive=True))
    ]
    return cythonize(kernels, language_level=3, build_dir="build")


setup(
    ext_modules=extensions(),
    packages=[*find_packages(include=["tfxc", "tfxc.*"]), *SHIPPED],
    package_dir=SHIPPED,
    package_data={"": ["*.cc", "*.pyi"], "tfxc.configs": ["*.json", "*/*.json"]},
)
