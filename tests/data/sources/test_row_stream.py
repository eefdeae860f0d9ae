"""Examples that are read in their order, without knowing how many there are."""

from tests.data.prepared import numbered_rows
from tfxc.data.sources.base import RowStream


def test_examples_are_numbered_over_blocks_and_read_as_often_as_asked():
    blocks = [numbered_rows(5), numbered_rows(1), numbered_rows(4)]
    stream = RowStream(lambda: iter(blocks))
    for _ in range(2):
        found = [batch["example_index"].tolist() for batch in stream.sequential(3)]
        assert found == [[0, 1, 2], [3, 4], [5], [6, 7, 8], [9]]
