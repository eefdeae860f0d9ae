"""The text format of the Extreme Classification Repository."""

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from tfxc.core.errors import DataError
from tfxc.core.settings import MAX_LINE_BYTES
from tfxc.data.formats.base import Reader, bounded
from tfxc.data.parsing.sparse_lines import parse_header, parse_rows

if TYPE_CHECKING:
    from tfxc.data.parsing.path_probe import PathProbe


class XCRepository(Reader):
    """Reads ``num_points num_features num_labels`` and then one example per line.

    A line is ``l1,l2,... f1:v1 f2:v2 ...`` with ids from 0. It starts with a space where it has no
    labels (or directly with ``f1:v1``); it may end after the labels. The order of the features
    carries no meaning: rows come sorted by feature id. A label given twice counts once, a feature
    given twice is an error. Blank lines after the last point are ignored.

    Args:
        path: ``.txt`` file, perhaps compressed.
        max_line_bytes: longest line.

    Raises:
        DataError: naming file and line: no header, more or fewer points than it says, an id beyond
            it, an unparsable or duplicate feature, a value that is NaN or infinite.

    Source: Bhatia et al., The extreme classification repository, 2016.

    Example:
        >>> reader = XCRepository("train.txt")        # doctest: +SKIP
        >>> reader.num_examples, reader.num_features, reader.num_labels   # doctest: +SKIP
        (4880, 1836, 159)
    """

    suffixes = (".txt",)
    compressed = True
    summary = ".txt with the header of the XC Repository"

    @classmethod
    def recognises(cls, probe: "PathProbe") -> bool:
        return super().recognises(probe) and parse_header(probe.first_line) is not None

    def __init__(self, path: str | Path, *, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        super().__init__(path, max_line_bytes)
        line = self._lines.first()
        header = parse_header(line)
        if header is None:
            found = "an empty file" if line is None else repr(line[:60].decode("utf-8", "replace"))
            raise DataError(
                "the header 'num_points num_features num_labels' (Extreme Classification "
                f"Repository) expected, found {found}",
                where=f"{self.path}:1",
                fix="add the header, or give the format by name, e.g. svmlight",
            )
        self.num_examples, self.num_features, self.num_labels = header

    def _read(self, size):
        found = 0
        for first, lines in self._point_blocks(size):
            if found + len(lines) > self.num_examples:
                lines = self._without_blank_end(lines, self.num_examples - found)
            if lines:
                found += len(lines)
                numbers = range(first, first + len(lines))
                rows = parse_rows(lines, numbers, self.path, self.num_labels, self.num_features)
                yield rows.to_chunk(self.num_features)
        if found < self.num_examples:
            raise self._wrong_count(found)

    def _point_blocks(self, size):
        """Blocks of lines after the header, ``size`` lines each."""
        blocks = self._lines.blocks(size)
        lines = itertools.chain.from_iterable(lines for _, lines in blocks)
        next(lines)
        first = 2
        for block in bounded(lines, size, len):
            yield first, block
            first += len(block)

    def _without_blank_end(self, lines, expected):
        if any(line.strip() for line in lines[expected:]):
            lines = itertools.chain.from_iterable(block for _, block in self._lines.blocks(4096))
            raise self._wrong_count(max(place for place, line in enumerate(lines) if line.strip()))
        return lines[:expected]

    def _wrong_count(self, found):
        return DataError(
            f"{self.num_examples:,} points as in the header expected, found {found:,} lines",
            where=f"{self.path}:1",
            fix="correct the header or restore the missing lines",
        )
