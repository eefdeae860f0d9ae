"""Builds the one native extension; everything else stands in setup.cfg.

TFXC_NO_OPENMP=1 builds without OpenMP (one thread); TFXC_NO_EXTENSION=1 leaves the extension
out, and the NumPy path of the same functions is used.
"""

import os
import sys

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup


def extensions():
    if os.environ.get("TFXC_NO_EXTENSION"):
        return []
    # macOS ships a compiler without OpenMP; the kernel then runs on one thread.
    openmp = [] if os.environ.get("TFXC_NO_OPENMP") or sys.platform == "darwin" else ["-fopenmp"]
    kernel = Extension(
        "tfxc.ops._gather",
        ["tfxc/ops/_gather.pyx"],
        include_dirs=[numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        extra_compile_args=["-O3", *openmp],
        extra_link_args=openmp,
        optional=True,
    )
    return cythonize([kernel], language_level=3)


setup(ext_modules=extensions())
