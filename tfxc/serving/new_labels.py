"""Labels that a server's runs find in addition, by their texts, in a file that requests add to."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tfxc.core.errors import ConfigError, DataError
from tfxc.core.escaping import json_text
from tfxc.core.storage.compression import COMPRESSED
from tfxc.data.reading.label_texts import read_label_texts, text_of_name
from tfxc.data.reading.parsing.label_checks import check_label_name
from tfxc.serving.appended_lines import (
    append_line,
    drop_cut_line,
    is_cut,
    lock_of,
    unended_line,
)
from tfxc.serving.examples import unfit
from tfxc.serving.limits import RequestError, bad_request

if TYPE_CHECKING:
    from tfxc.runs.loaded import LoadedRun

# Characters. A line of the file, with escapes, then stays far below the longest that is read.
_LONGEST_NAME = 200
_LONGEST_TEXT = 10_000


class NewLabels:
    """The labels of a file of texts, which ``tfxc add-labels --label-texts`` reads as well.

    Args:
        path: the file, not compressed; it is made with the first label where there is none.

    Attributes:
        texts: dict of label name -> text.

    Raises:
        DataError: the file is no such file.
        ConfigError: it is compressed, or its folder is not there.

    Example:
        >>> NewLabels("no_such_file.jsonl").texts
        {}
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).resolve()  # a link stays one
        if self.path.suffix.lower() in COMPRESSED or not self.path.parent.is_dir():
            reason = (
                "its folder is not there" if not self.path.parent.is_dir() else "it is compressed"
            )
            raise ConfigError(
                f"no labels can be added to {str(path)!r}: {reason}",
                where="--label-texts",
                fix="name a .jsonl file in an existing folder",
            )
        self.texts: dict[str, str] = {}
        self.read()

    def read(self) -> None:
        """Reads the file again: others may have written to it.

        A last line that a killed server has not written to its end is dropped.
        """
        if is_cut(unended_line(self.path)):
            with lock_of(self.path):
                drop_cut_line(self.path)
        self._load()

    def missing_in(self, loaded: "LoadedRun") -> dict[str, str]:
        """Returns the texts of those that a run does not know."""
        return {name: t for name, t in self.texts.items() if name not in loaded.vocabulary}

    def add(self, name: str, text: str) -> None:
        """Appends one to the file; another server that adds to it waits for its turn.

        Raises:
            RequestError: 409, the file has another text for this label; 400, the file could not be
                read with it; 500, it cannot be read as it is.
        """
        line = (json_text({"label": name, "text": text}) + "\n").encode()
        with lock_of(self.path):
            drop_cut_line(self.path)
            try:
                self._load()
            except DataError as error:
                raise RequestError(500, f"the file of new labels is damaged ({error})") from None
            if self.texts.get(name, text) != text:
                problem = f"{name[:60]!r} has another text in {self.path.name} already"
                raise RequestError(409, problem, where="label", fix="choose another name")
            if name not in self.texts:
                self._check_readable(line)
                append_line(self.path, line)
        self.texts[name] = text

    def _load(self) -> None:
        if self.path.exists():
            self.texts = {**self.texts, **read_label_texts(self.path)}

    def _check_readable(self, line: bytes) -> None:
        """Refuses what the file's own reader would refuse behind the lines that are there."""
        first = b""  # the first line that is not blank
        if self.path.exists():
            with self.path.open("rb") as stream:
                first = next((row.rstrip(b"\n") + b"\n" for row in stream if row.strip()), b"")
        with tempfile.TemporaryDirectory(prefix="tfxc-label-") as folder:
            trial = Path(folder, "trial.jsonl")
            trial.write_bytes(first + line)
            try:
                read_label_texts(trial)
            except DataError as error:
                raise bad_request(
                    f"{self.path.name} could not be read with it ({error.problem})", "label"
                ) from None


def checked_label(name: object, text: object) -> tuple[str, str]:
    """Returns the name and the text of a label that a request adds.

    Args:
        name: of the label.
        text: None for the name, ``_`` and ``-`` read as blanks.

    Raises:
        RequestError: 400, they cannot be those of a label.

    Example:
        >>> checked_label("order_pizza", None)
        ('order_pizza', 'order pizza')
    """
    if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_NAME:
        raise unfit(name, f"a name of 1 to {_LONGEST_NAME} characters", "label")
    name = name.strip()
    text = text_of_name(name) if text is None else text
    if not isinstance(text, str) or not text.strip():
        raise unfit(text, "a text", "text")
    if len(text) > _LONGEST_TEXT:
        raise bad_request(
            f"the text has {len(text):,} characters", "text", f"send at most {_LONGEST_TEXT:,}"
        )
    try:
        check_label_name(name, "label")
    except DataError as error:
        raise bad_request(error.problem, str(error.where)) from None
    return name, text
