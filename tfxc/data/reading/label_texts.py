"""The file of label texts, and which text belongs to which label."""

from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfxc.core.errors import DataError
from tfxc.core.settings import MAX_LINE_BYTES
from tfxc.data.reading.formats.jsonl import JSONLines

if TYPE_CHECKING:
    from tfxc.core.settings import DataSettings

_SHOWN = 3


def read_label_texts(path: str | Path, longest_line: int = MAX_LINE_BYTES) -> dict[str, str]:
    """Returns the texts of a file by label, in its order.

    Args:
        path: JSON lines ``{"label": ..., "text": ...}``, perhaps compressed; a label is a name,
            or a number where the data numbers its labels.
        longest_line: in bytes.

    Returns:
        dict: label name -> text.

    Raises:
        DataError: naming file and line: no such line, an empty text, or a label given twice.

    Example:
        >>> read_label_texts("labels.jsonl")                               # doctest: +SKIP
        {'card_arrival': 'card arrival'}
    """
    reader = JSONLines(path, labels_field="label", max_line_bytes=longest_line, encoding=None)
    texts: dict[str, str] = {}
    for number, (text, labels) in enumerate(_entries(reader), 1):
        where = f"{path}, entry {number:,}"
        if len(labels) != 1:
            raise DataError(
                f"'label' has {len(labels)} labels instead of one",
                where=where,
                fix="write a line for each label",
            )
        name = str(labels[0])
        if not text.strip():
            raise DataError(
                f"the text of label {name!r} is empty",
                where=where,
                fix="write one, or remove the line",
            )
        if name in texts:
            raise DataError(
                f"label {name!r} already has a text",
                where=where,
                fix="remove one of the two lines",
            )
        texts[name] = text
    return texts


def read_new_label_texts(path: str | Path, known: Container[str]) -> dict[str, str]:
    """Returns the texts of a file of new labels, at least one; see ``read_label_texts``.

    Args:
        path: as of ``read_label_texts``.
        known: names of the labels that a run has.

    Raises:
        DataError: as ``read_label_texts``, or no label, or one that is known.
    """
    texts = read_label_texts(path)
    if not texts:
        raise DataError("the file has no labels", where=path, fix="name a file with labels")
    repeated = [name for name in texts if name in known]
    if repeated:
        raise DataError(
            f"the run knows {len(repeated):,} of these labels already: {_some(repeated)}",
            where=path,
            fix="delete their lines from the file",
        )
    return texts


def _some(names: Sequence[str]) -> str:
    """Returns the first names, for a message."""
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return f"{shown} and others" if len(names) > _SHOWN else shown


def _entries(reader: JSONLines) -> Iterator[tuple[str, Sequence[Any]]]:
    """Yields text and labels of each line."""
    try:
        for chunk in reader.chunks():
            yield from zip(chunk.texts or [], chunk.labels, strict=True)
    except DataError as error:
        if not error.problem.startswith(("the key", "the line is not a JSON object")):
            raise
        fix = 'write lines of JSON: {"label": ..., "text": ...}'
        raise DataError(error.problem, where=error.where, fix=fix) from None


def text_of_name(name: str) -> str:
    """Returns a label's name as a text: ``_`` and ``-`` are read as blanks.

    Example:
        >>> text_of_name("card_arrival")
        'card arrival'
    """
    return " ".join(name.replace("_", " ").replace("-", " ").split()) or name


def texts_of_labels(
    given: Mapping[str, str] | None, names: Sequence[str], settings: "DataSettings"
) -> list[str]:
    """Returns the text of each label, in the order of their ids.

    Args:
        given: what ``read_label_texts`` returned; None for the names themselves.
        names: of the labels; those of ``given`` that are not among them are left out.
        settings: says what happens where a text is missing.

    Returns:
        list: texts; the empty one where none is given and ``missing_texts`` is ``"free"``.

    Raises:
        DataError: labels without a text.

    Example:
        >>> from tfxc.core.settings import DataSettings
        >>> settings = DataSettings(
        ...     name="mine", train="train.jsonl", label_texts="names", text_features="words"
        ... )
        >>> texts_of_labels(None, ["lost_card"], settings)
        ['lost card']
    """
    if given is None:
        return [text_of_name(name) for name in names]
    missing = [name for name in names if name not in given]
    if missing and settings.missing_texts == "error":
        raise DataError(
            f"{len(missing):,} of {len(names):,} labels have no text: {_some(missing)}",
            where=settings.label_texts,
            fix="add them, or set data.missing_texts to 'free' and head.free_vectors to true",
        )
    return [given.get(name, "") for name in names]


def repeated_texts(texts: Sequence[str]) -> int:
    """Returns how many labels have a text that a label before them has; missing ones do not count.

    Example:
        >>> repeated_texts(["card lost", "card stolen", "card lost", "", ""])
        1
    """
    given = [text for text in texts if text]
    return len(given) - len(set(given))
