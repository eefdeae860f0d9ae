"""Plain text, one example per line."""

from collections.abc import Iterator
from pathlib import Path

from tfxc.core.declared import Count
from tfxc.core.settings import MAX_LINE_BYTES
from tfxc.data.examples.kinds import INPUTS, TEXT
from tfxc.data.reading.formats.base import TextReader
from tfxc.data.reading.parsing.lines import UTF_8
from tfxc.data.reading.parsing.path_probe import PathProbe
from tfxc.data.reading.parsing.sparse_lines import parse_header


class PlainTexts(TextReader):
    """Reads one text per line, for a model that finds their labels.

    An empty line is an empty text: answers keep the lines' numbers.

    Args:
        path: the file, perhaps compressed.

    Raises:
        ConfigError: Python knows no such ``encoding``.
        DataError: naming file and line: the text is not in its ``encoding``.

    Example:
        >>> next(PlainTexts("questions.txt").chunks(2)).texts        # doctest: +SKIP
        ['what is xml', 'how do I sort a list']
    """

    suffixes = (".txt",)
    summary = ".txt, one text per line"
    specificity = 10
    has_labels = False

    @classmethod
    def recognises(cls, probe: PathProbe) -> bool:
        input_kind = INPUTS.get(probe.input_kind or "")
        if input_kind is None or input_kind.chunk_field != TEXT.chunk_field:
            return False
        if not super().recognises(probe):
            return False
        return parse_header(probe.first_line) is None

    def __init__(
        self,
        path: str | Path,
        *,
        max_line_bytes: Count = MAX_LINE_BYTES,
        encoding: str | None = UTF_8,
    ) -> None:
        super().__init__(path, max_line_bytes, encoding)

    def _examples(self) -> Iterator[tuple[str, list[str]]]:
        for _, line in self._lines.texts():
            yield line, []
