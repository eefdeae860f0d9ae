"""What the tests of the Python interface share."""

import pytest


@pytest.fixture(autouse=True)
def _messages_are_printed():
    """Not here: a program that imports the package prints none of its messages."""
