"""A folder of texts and their labels in files of the same lines, as LightXML and MHE have it."""

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tfxc.core.declared import Count
from tfxc.core.errors import DataError
from tfxc.core.settings import MAX_LINE_BYTES
from tfxc.core.storage.compression import COMPRESSED
from tfxc.data.examples.kinds import INPUTS, TEXT
from tfxc.data.reading.formats.base import TextReader
from tfxc.data.reading.parsing.label_checks import check_label_name
from tfxc.data.reading.parsing.lines import UTF_8, Lines
from tfxc.data.reading.parsing.path_probe import PathProbe

_TRAIN = "train"
# What the names of the files go on with behind the split's; raw texts are those that are not cut
# into words yet.
_TEXTS = ("_raw_texts.txt", "_texts.txt")
_LABELS = ("_labels.txt",)


class TextLabelFiles(TextReader):
    """Reads ``train_texts.txt`` and ``train_labels.txt``, an example on the same line of both.

    That is the layout of AttentionXML, LightXML and MHE-XMC. A line of the one is a text, of the
    other its labels, separated by blanks; none is an example without labels. A label given twice
    counts once. Where there is ``train_raw_texts.txt``, the texts are read from there.

    Args:
        path: the folder; its files may be compressed.
        split: what the names of the files begin with.
        labelled: if False, yields the texts without labels, whose file is optional.
        max_line_bytes: longest line of either file.

    Raises:
        ConfigError: Python knows no such ``encoding``.
        DataError: a file is missing, or the two do not have the same number of lines; naming file
            and line: the text is not in its ``encoding``.

    Source: https://github.com/kongds/LightXML (the layout of its data sets).

    Example:
        >>> reader = TextLabelFiles("Wiki10-31K", split="test")     # doctest: +SKIP
        >>> next(reader.chunks(1)).labels                           # doctest: +SKIP
        [['gps', 'hiking', 'maps']]
    """

    summary = "a folder of train_texts.txt and train_labels.txt"
    compressed = False
    specificity = 10

    @classmethod
    def recognises(cls, probe: PathProbe) -> bool:
        splits = _splits(probe.files, _TEXTS)
        if probe.input_kind is None:
            return not splits.keys().isdisjoint(_splits(probe.files, _LABELS))
        is_text = INPUTS[probe.input_kind].chunk_field == TEXT.chunk_field
        return is_text and bool(splits)

    @classmethod
    def splits_of(cls, path: Path) -> list[str]:
        names = [file.name for file in path.iterdir()]
        splits = sorted(_splits(names, _TEXTS).keys() & _splits(names, _LABELS).keys())
        return [] if splits == [_TRAIN] else splits

    def __init__(
        self,
        path: str | Path,
        *,
        split: str = _TRAIN,
        labelled: bool = True,
        max_line_bytes: Count = MAX_LINE_BYTES,
        encoding: str | None = UTF_8,
    ) -> None:
        super().__init__(path, max_line_bytes, encoding)
        if not self.path.is_dir():
            raise DataError("this is not a folder", where=self.path, fix="name the folder it is in")
        self._lines = Lines(self._file(split, _TEXTS), max_line_bytes, encoding=encoding)
        self.total_bytes = self._lines.path.stat().st_size
        self._labels: Lines | None = None
        if labelled:
            self._labels = Lines(self._file(split, _LABELS), max_line_bytes, encoding=encoding)

    def _file(self, split: str, endings: Sequence[str]) -> Path:
        names = sorted(file.name for file in self.path.iterdir())
        name = _splits(names, endings).get(split)
        if name is None:
            raise DataError(
                f"the folder has no file {split}{endings[-1]}, only {', '.join(names) or 'none'}",
                where=self.path,
                fix="set the reader's option split to what the names of its files begin with",
            )
        return self.path / name

    def _examples(self) -> Iterator[tuple[str, list[str]]]:
        if self._labels is None:
            for _, text in self._lines.texts():
                yield text, []
            return
        pairs = itertools.zip_longest(self._lines.texts(), self._labels.texts())
        for count, (numbered_text, labels) in enumerate(pairs):
            if numbered_text is None or labels is None:
                longer = count + 1 + sum(1 for _ in pairs)
                num_texts = count if numbered_text is None else longer
                num_labels = count if labels is None else longer
                raise DataError(
                    f"{self._lines.path.name} has {num_texts:,} lines, "
                    f"{self._labels.path.name} {num_labels:,}",
                    where=self.path,
                    fix="restore the missing lines, an empty one for an example without labels",
                )
            number, line = labels
            names = list(dict.fromkeys(line.split()))
            for name in names:
                check_label_name(name, f"{self._labels.path}:{number}")
            yield numbered_text[1], names


def _splits(names: Iterable[str], endings: Sequence[str]) -> dict[str, str]:
    """Returns {split: name of its file}; the first of the ``endings`` comes first."""
    files: dict[str, str] = {}
    left = sorted(names)
    for ending in endings:
        whole = re.compile(
            f"(.+){re.escape(ending)}({'|'.join(map(re.escape, COMPRESSED))})?", re.I
        )
        for name in left.copy():
            if fitting := whole.fullmatch(name):
                files.setdefault(fitting[1], name)
                left.remove(name)
    return files
