"""A linear ranker that is trained once."""

import pytest

from tests.linear_runs import command


@pytest.fixture(scope="package")
def run(tmp_path_factory):
    """The run folder of a trained linear ranker, next to its data."""
    from tfxc.commands import train

    folder = tmp_path_factory.mktemp("xr_linear")
    assert train.main([str(part) for part in command(folder)]) == 0
    return folder / "run"
