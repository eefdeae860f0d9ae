"""LibMultiLabel's lines: labels and a text, separated by a tab."""

from collections.abc import Iterator
from pathlib import Path

from tfxc.core.declared import Count
from tfxc.core.errors import DataError
from tfxc.core.settings import MAX_LINE_BYTES
from tfxc.data.reading.formats.base import TextReader
from tfxc.data.reading.parsing.label_checks import check_label_name
from tfxc.data.reading.parsing.lines import UTF_8
from tfxc.data.reading.parsing.path_probe import PathProbe


class LibMultiLabel(TextReader):
    """Reads ``labels<TAB>text`` or ``id<TAB>labels<TAB>text`` lines without a header.

    Labels are names without white space, separated by it; none is an example without labels. All
    lines have as many columns as the first. Quotes are ordinary characters, blank lines are
    skipped, a label given twice counts once.

    Args:
        path: ``.txt`` or ``.tsv`` file, perhaps compressed; a ``.tsv`` file is taken for one
            of ``delimited`` unless this format is named.

    Raises:
        ConfigError: Python knows no such ``encoding``.
        DataError: naming file and line: not two or three columns, or another number than in the
            first line; the text is not in its ``encoding``.

    Source: https://www.csie.ntu.edu.tw/~cjlin/libmultilabel/cli/ov_data_format.html

    Example:
        >>> reader = LibMultiLabel("rcv1/train.txt")     # doctest: +SKIP
        >>> next(reader.chunks(1)).labels                # doctest: +SKIP
        [['E11', 'ECAT', 'M11', 'M12', 'MCAT']]
    """

    suffixes = (".txt",)
    summary = ".txt of LibMultiLabel, labels and text between tabs"

    @classmethod
    def recognises(cls, probe: PathProbe) -> bool:
        # Where labels do not matter, a text file has one text per line unless this format is named.
        if probe.input_kind is not None or not super().recognises(probe):
            return False
        return (probe.first_line or b"").count(b"\t") in (1, 2)

    def __init__(
        self,
        path: str | Path,
        *,
        labelled: bool = True,
        max_line_bytes: Count = MAX_LINE_BYTES,
        encoding: str | None = UTF_8,
    ) -> None:
        super().__init__(path, max_line_bytes, encoding)
        self._labelled = labelled

    def _examples(self) -> Iterator[tuple[str, list[str]]]:
        columns = None
        for number, line in self._lines.texts():
            if not line.strip():
                continue
            where = f"{self.path}:{number}"
            cells = line.split("\t")
            wanted: tuple[int, ...] = (2, 3) if columns is None else (columns,)
            if len(cells) not in wanted:
                raise DataError(
                    f"the number of columns between tabs is {len(cells)} instead of "
                    f"{' or '.join(map(str, wanted))}",
                    where=where,
                    fix="write the labels, a tab and the text, without tabs in it",
                )
            columns = len(cells)
            *_, labels, text = cells
            names = list(dict.fromkeys(labels.split())) if self._labelled else []
            for name in names:
                check_label_name(name, where)
            yield text, names
