"""The text format of the Extreme Classification Repository."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from tfxc.core.declared import Count
from tfxc.core.errors import DataError
from tfxc.core.settings import MAX_LINE_BYTES
from tfxc.data.examples.chunk import Chunk
from tfxc.data.reading.formats.base import Reader
from tfxc.data.reading.parsing.lines import bounded
from tfxc.data.reading.parsing.path_probe import PathProbe
from tfxc.data.reading.parsing.sparse_lines import parse_header, parse_rows


class XCRepository(Reader):
    """Reads ``num_points num_features num_labels`` and then one example per line.

    A line is ``l1,l2,... f1:v1 f2:v2 ...`` with ids from 0. It starts with a space where it has no
    labels (or directly with ``f1:v1``); it may end after the labels. The order of the features
    carries no meaning: rows come sorted by feature id. A label given twice counts once, a feature
    given twice is an error. Blank lines after the last point are ignored.

    Args:
        path: ``.txt`` file, perhaps compressed.

    Raises:
        DataError: naming file and line: no header, more or fewer points than it says, an id beyond
            it, an unparsable or duplicate feature, a value that is NaN or infinite.

    Source: Bhatia et al., The extreme classification repository, 2016.

    Example:
        >>> reader = XCRepository("train.txt")        # doctest: +SKIP
        >>> reader.num_examples, reader.num_features, reader.num_labels   # doctest: +SKIP
        (4880, 1836, 159)
    """

    num_examples: int
    num_features: int
    num_labels: int
    suffixes = (".txt",)
    compressed = True
    summary = ".txt with the header of the XC Repository"

    @classmethod
    def recognises(cls, probe: PathProbe) -> bool:
        return super().recognises(probe) and parse_header(probe.first_line) is not None

    def __init__(self, path: str | Path, *, max_line_bytes: Count = MAX_LINE_BYTES) -> None:
        super().__init__(path, max_line_bytes)
        line = self._lines.first()
        header = parse_header(line)
        if header is None:
            shown = "the file is empty"
            if line is not None:
                shown = f"the first line is {line[:60].decode('utf-8', 'replace')!r}"
            raise DataError(
                "there is no header 'num_points num_features num_labels' of the Extreme "
                f"Classification Repository: {shown}",
                where=f"{self.path}:1",
                fix="add the header, or give the format by name, e.g. svmlight",
            )
        self.num_examples, self.num_features, self.num_labels = header

    def _read(self, size: int) -> Iterator[Chunk]:
        points = itertools.chain.from_iterable(lines for _, lines in self._lines.blocks(size))
        next(points)  # the header
        count = 0
        number = 2  # of the block's first line
        for lines in bounded(points, size, len):
            left = self.num_examples - count
            if any(line.strip() for line in lines[left:]):
                whole = itertools.chain.from_iterable(
                    block for _, block in self._lines.blocks(4096)
                )
                raise self._wrong_count(max(n for n, line in enumerate(whole) if line.strip()))
            points_of_block = lines[:left]
            if points_of_block:
                count += len(points_of_block)
                rows = parse_rows(
                    points_of_block,
                    range(number, number + len(points_of_block)),
                    self.path,
                    self.num_labels,
                    self.num_features,
                )
                yield rows.to_chunk(self.num_features)
            number += len(lines)
        if count < self.num_examples:
            raise self._wrong_count(count)

    def _wrong_count(self, lines: int) -> DataError:
        return DataError(
            f"the header says {self.num_examples:,} points, but there are {lines:,} lines",
            where=f"{self.path}:1",
            fix="correct the header or restore the missing lines",
        )
