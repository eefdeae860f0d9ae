"""The svmlight / LIBSVM text format with several labels per line."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from tfxc.core.declared import Count
from tfxc.core.progress import Progress
from tfxc.core.settings import MAX_LINE_BYTES
from tfxc.data.examples.chunk import Chunk
from tfxc.data.reading.formats.base import NONE_GIVEN, Reader
from tfxc.data.reading.parsing.column_guess import Wanted
from tfxc.data.reading.parsing.lines import bounded
from tfxc.data.reading.parsing.path_probe import PathProbe
from tfxc.data.reading.parsing.sparse_lines import SIGNS, SparseRows, parse_rows

# Labels, if any, and at least one feature. What is between them is no part of either, so that a
# long line of digits is refused at once.
_PAIR = rb"\d+:[-+.\deE]+"
_LINE = re.compile(rb"(?:[-+\d.,]+\s+|\s*)" + _PAIR + rb"(?:\s+" + _PAIR + rb")*\s*(?:#.*)?")


class SVMLight(Reader):
    """Reads ``l1,l2,... f1:v1 f2:v2 ...  # comment`` lines without a header.

    Labels are non-negative ids, or the two classes +1 and −1, one per line, whose names are ``"1"``
    and ``"-1"``: the first label that is not 1 shows which (``+1`` is 1). Blank lines and lines
    that hold only a comment are skipped. The order of the features carries no meaning: rows come
    sorted by feature id.

    Unless both ``num_features`` and ``zero_based`` are given, the constructor reads the file once
    to find them (and ``num_examples``). A split of a data set should be given both: by itself it
    may lack the lowest or the highest feature.

    Args:
        path: ``.svm``, ``.svmlight``, ``.libsvm`` or ``.txt`` file, perhaps compressed.
        zero_based: whether feature ids count from 0 (True) or 1 (False); ``"auto"`` = from 1 if
            id 0 does not occur.
        num_features: number of features; None = as many as the highest id needs.

    Raises:
        DataError: naming file and line: an id out of range, another label next to +1 and −1, an
            unparsable or duplicate feature, a value that is NaN or infinite.

    Example:
        >>> reader = SVMLight("train.svm", zero_based=False)        # doctest: +SKIP
        >>> next(reader.chunks(100)).features.shape                 # doctest: +SKIP
        (100, 47236)
    """

    suffixes: tuple[str, ...] = (".svm", ".svmlight", ".libsvm")
    compressed = True
    summary = ".svm, .svmlight, .libsvm, or .txt that begins with such a line"

    @classmethod
    def recognises(cls, probe: PathProbe) -> bool:
        if super().recognises(probe):
            return True
        is_text = probe.suffix(cls.compressed) == ".txt"
        return is_text and _LINE.fullmatch(probe.first_line or b"") is not None

    def __init__(
        self,
        path: str | Path,
        *,
        zero_based: bool | Literal["auto"] = "auto",
        num_features: Count | None = None,
        max_line_bytes: Count = MAX_LINE_BYTES,
    ) -> None:
        super().__init__(path, max_line_bytes)
        self.num_features = num_features
        if self._labels_are_signs():
            self.num_labels = len(SIGNS)
            self.label_names = list(SIGNS)
        self._first_feature = 0 if zero_based == "auto" else int(not zero_based)
        if zero_based == "auto" or num_features is None:
            self._scan(find_base=zero_based == "auto")

    @classmethod
    def options_of(
        cls,
        path: Path,
        wanted: Wanted,
        split: str | None = None,
        given: Mapping[str, Any] = NONE_GIVEN,
    ) -> dict[str, Any]:
        """Returns what one split alone may not show: the number of features, and where ids
        begin.
        """
        super().options_of(path, wanted)
        reader = cls(path, **given)
        if not reader.num_features:
            return {}
        return {"zero_based": not reader._first_feature, "num_features": reader.num_features}

    def _labels_are_signs(self) -> bool:
        """Tells whether the first label that is not 1 is −1; elsewhere labels are ids."""
        for _, line in self._example_lines():
            head = line.split(maxsplit=1)[0]
            if b":" in head or line[:1].isspace():  # a line without labels
                continue
            try:
                label = float(head)
            except ValueError:  # several labels
                return False
            if label != 1:
                return label == -1
        return False

    def _scan(self, find_base: bool) -> None:
        lowest = None
        highest = -1
        num_examples = 0
        # Ids are checked against num_features only once their base is known.
        num_features = self.num_features
        self.num_features = None
        with Progress(f"scanning {self.path.name}", self.total_bytes, unit="bytes") as progress:
            for rows in self._rows(4096):
                progress.advance(self.bytes_read - progress.done)
                num_examples += len(rows.label_counts)
                if rows.feature_ids.size:
                    smallest = int(rows.feature_ids.min())
                    lowest = smallest if lowest is None else min(lowest, smallest)
                    highest = max(highest, int(rows.feature_ids.max()))
        if find_base:
            self._first_feature = int(bool(lowest))
        self.num_features = num_features or max(0, highest + 1 - self._first_feature)
        self.num_examples = num_examples

    def _read(self, size: int) -> Iterator[Chunk]:
        assert self.num_features is not None, "given, or counted when the file was opened"
        for rows in self._rows(size):
            yield rows.to_chunk(self.num_features, self._first_feature, self.label_names)

    def _rows(self, size: int) -> Iterator[SparseRows]:
        lines = self._example_lines()
        for block in bounded(lines, size, lambda numbered: len(numbered[1])):
            yield parse_rows(
                [line for _, line in block],
                [number for number, _ in block],
                self.path,
                num_features=self.num_features,
                first_feature=self._first_feature,
                signs=self.label_names is not None,
            )

    def _example_lines(self) -> Iterator[tuple[int, bytes]]:
        for first, lines in self._lines.blocks(4096):
            for number, line in enumerate(lines, start=first):
                example = line.partition(b"#")[0]
                if example.strip():
                    yield number, example
