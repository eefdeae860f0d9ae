"""Builds the native extensions; everything else stands in setup.cfg.

TFXC_NO_OPENMP=1 builds without OpenMP (one thread); TFXC_NO_EXTENSION=1 leaves them
out, and the NumPy path of the same functions is used.
"""

import os
import sys
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

NATIVE = ("_beam_search", "_chunk_index", "_gather", "_linear_solver", "_two_means", "_walk")


def extensions():
    if os.environ.get("TFXC_NO_EXTENSION"):
        return []
    # macOS ships a compiler without OpenMP; the kernel then runs on one thread.
    openmp = [] if os.environ.get("TFXC_NO_OPENMP") or sys.platform == "darwin" else ["-fopenmp"]
    kernels = [
        Extension(
            f"tfxc.ops.{name}",
            [f"tfxc/ops/{name}.pyx"],
            depends=[*glob("tfxc/ops/_*.pxd"), "tfxc/ops/_linear_lanes.h"],
            extra_compile_args=["-O3", *openmp],
            extra_link_args=openmp,
            optional=True,
        )
        for name in NATIVE
    ]
    return cythonize(kernels, language_level=3)


setup(ext_modules=extensions())
