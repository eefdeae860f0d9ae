"""What the tests of faults share."""

import resource

import pytest


@pytest.fixture
def file_limit():
    """Sets the most bytes that a file of this process may have: a disk that is full for some."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(
        resource.RLIMIT_FSIZE, (before[0] if size is None else size, before[1])
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
