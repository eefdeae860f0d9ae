"""The text format of fastText: labels as words with a prefix, then the text."""

from collections.abc import Iterator
from pathlib import Path

from tfxc.core.declared import Count
from tfxc.core.errors import ConfigError
from tfxc.core.settings import MAX_LINE_BYTES
from tfxc.data.reading.formats.base import TextReader
from tfxc.data.reading.parsing.lines import UTF_8
from tfxc.data.reading.parsing.path_probe import PathProbe

_PREFIX = "__label__"


class FastTextLines(TextReader):
    """Reads ``__label__a __label__b the text`` lines.

    Words that begin with the prefix are labels wherever they stand, as in fastText; the others,
    joined by single spaces, are the text. Blank lines are skipped.

    Args:
        path: ``.txt``, ``.train``, ``.valid`` or ``.test`` file, perhaps compressed.
        prefix: what a label begins with.
        labelled: if False, yields the texts without labels, which are optional; a blank line is an
            empty text then.

    Raises:
        ConfigError: ``prefix`` is empty or holds white space.
        DataError: naming file and line: the text is not in its ``encoding``.

    Source: Joulin et al., Bag of Tricks for Efficient Text Classification, EACL 2017 (the format of
    its program).

    Example:
        >>> reader = FastTextLines("cooking.train")        # doctest: +SKIP
        >>> next(reader.chunks(1)).labels                  # doctest: +SKIP
        [['sauce', 'cheese']]
    """

    suffixes = (".txt", ".train", ".valid", ".test")
    summary = ".txt, .train, .valid or .test that begins with __label__"
    specificity = 20
    label_options = ("prefix",)

    @classmethod
    def recognises(cls, probe: PathProbe) -> bool:
        return super().recognises(probe) and (probe.first_line or b"").lstrip().startswith(
            _PREFIX.encode()
        )

    def __init__(
        self,
        path: str | Path,
        *,
        prefix: str = _PREFIX,
        labelled: bool = True,
        max_line_bytes: Count = MAX_LINE_BYTES,
        encoding: str | None = UTF_8,
    ) -> None:
        super().__init__(path, max_line_bytes, encoding)
        if prefix.split() != [prefix]:
            raise ConfigError(
                f"{prefix!r} is not a word",
                where="prefix",
                fix="give what labels begin with, without white space",
            )
        self.prefix = prefix
        self._labelled = labelled

    def _examples(self) -> Iterator[tuple[str, list[str]]]:
        for _, line in self._lines.texts():
            words = line.split()
            if not words and self._labelled:
                continue
            labels = [word.removeprefix(self.prefix) for word in words if self._is_label(word)]
            text = " ".join(word for word in words if not self._is_label(word))
            yield text, list(dict.fromkeys(labels)) if self._labelled else []

    def _is_label(self, word: str) -> bool:
        return len(word) > len(self.prefix) and word.startswith(self.prefix)
