"""Nobody waits for NumPy's Fortran interface, and it is there for those who use it."""

import subprocess
import sys

CODE = """
import sys, tfxc, scipy.sparse
assert "numpy.f2py" in sys.modules and "numpy.f2py.crackfortran" not in sys.modules
import numpy
assert callable(numpy.f2py.get_include) and "numpy.f2py.crackfortran" in sys.modules
"""


def test_numpy_f2py_is_run_when_it_is_used():
    subprocess.run([sys.executable, "-c", CODE], check=True)
