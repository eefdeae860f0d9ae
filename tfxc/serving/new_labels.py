"""Labels that a server's runs find in addition, by their texts, in a file that requests add to."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfxc.core.errors import ConfigError, DataError
from tfxc.core.storage.compression import COMPRESSED
from tfxc.core.storage.files import atomic_file
from tfxc.core.storage.locks import locked
from tfxc.data.label_texts.file import read_label_texts, text_of_name
from tfxc.data.label_texts.prepared import write_texts
from tfxc.data.parsing.label_checks import check_label_name, check_unicode
from tfxc.serving.examples import as_shown
from tfxc.serving.limits import bad_request

if TYPE_CHECKING:
    from tfxc.runs.loaded import LoadedRun

_LONGEST_NAME = 200  # characters


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
            kind = "folder" if not self.path.parent.is_dir() else "file that is not compressed"
            raise ConfigError(
                f"a {kind} expected, to which labels are added, found {str(path)!r}",
                where="--label-texts",
                fix="name a .jsonl file in a folder that is there",
            )
        self.texts: dict[str, str] = {}
        self.read()

    def read(self) -> None:
        """Reads the file again: others may have written to it."""
        if self.path.exists():
            self.texts = {**self.texts, **read_label_texts(self.path)}

    def missing_in(self, loaded: "LoadedRun") -> dict[str, str]:
        """The texts of those that a run does not know."""
        return {name: t for name, t in self.texts.items() if name not in loaded.vocabulary}

    def add(self, name: str, text: str) -> None:
        """Adds one to the file; another server that adds to it waits for its turn."""
        with locked(self.path.with_name(f".{self.path.name}.lock"), busy=_wait):
            self.read()
            texts = {**self.texts, name: text}
            with atomic_file(self.path) as stream:
                write_texts(stream, list(texts), list(texts.values()))
        self.texts = texts


def _wait(holder):
    """The other server needs milliseconds."""


def checked_label(name: Any, text: Any) -> tuple[str, str]:
    """The name and the text of a label that a request adds.

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
        raise bad_request(
            f"a name of 1 to {_LONGEST_NAME} characters expected, found {as_shown(name)}", "label"
        )
    name = name.strip()
    text = text_of_name(name) if text is None else text
    if not isinstance(text, str) or not text.strip():
        raise bad_request(f"a text expected, found {as_shown(text)}", "text")
    try:
        check_label_name(name, "label")
        check_unicode(text, "a text", "text")
    except DataError as error:
        raise bad_request(error.problem, str(error.where)) from None
    return name, text
