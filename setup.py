"""Builds the native extensions; everything else stands in setup.cfg.

TFXC_NO_OPENMP=1 builds without OpenMP (one thread); TFXC_NO_EXTENSION=1 leaves them
out, and the NumPy path of the same functions is used.
"""

import os
import sys
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

OPS = "tfxc/ops"


def extensions():
    if os.environ.get("TFXC_NO_EXTENSION"):
        return []
    # macOS ships a compiler without OpenMP; the kernel then runs on one thread.
    openmp = [] if os.environ.get("TFXC_NO_OPENMP") or sys.platform == "darwin" else ["-fopenmp"]
    kernels = [
        Extension(
            path.removesuffix(".pyx").replace("/", "."),
            [path],
            depends=glob(f"{OPS}/**/*.pxd", recursive=True) + glob(f"{OPS}/**/*.h", recursive=True),
            extra_compile_args=["-O3", *openmp],
            extra_link_args=openmp,
            optional=True,
        )
        for path in sorted(glob(f"{OPS}/**/*.pyx", recursive=True))
    ]
    return cythonize(kernels, language_level=3)


setup(ext_modules=extensions())
