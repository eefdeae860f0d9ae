"""What every method of a kind must do: a method's test class inherits the contract of its kind.

A method with several test classes, of other arguments each, has one that passes the whole contract;
the others say ``variant = True``, and their general tests are slow. So do methods of one base class
that settles what these ask, but for one of them.
"""

import pytest

# A test of what the method's class settles, whatever its arguments are.
general = pytest.mark.general
