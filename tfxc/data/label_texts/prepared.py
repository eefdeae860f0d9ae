"""Label texts of a prepared folder: features of each label, and which example has which text.

Its folder ``label_texts`` holds ``texts.jsonl`` (labels and texts in the order of the ids), the
arrays of the texts' features as ``tfxc.data.examples.rows.Rows`` has them, ``keys.npy`` (of the
texts), and of each split ``own-SPLIT.npy`` (int32 (examples,): the label whose text is the
example's own, or -1) and ``examples-SPLIT.npy`` (keys of the examples' texts), in the order of its
records.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import DataError
from tfxc.core.escaping import json_text
from tfxc.core.storage.files import atomic_file, write_array
from tfxc.core.storage.reading import read_array
from tfxc.data.examples.rows import Rows
from tfxc.data.label_texts import KEYS_FILE, LABEL_TEXTS_FOLDER, TEXTS_FILE, has_label_texts
from tfxc.data.label_texts.keys import text_keys
from tfxc.data.reading.label_texts import read_label_texts
from tfxc.data.reading.parsing.record_layout import AGAIN
from tfxc.data.text.terms import first_of_each

if TYPE_CHECKING:
    from tfxc.data.examples.kinds import FeatureKind

_OWN = "own-{}.npy"
_EXAMPLES = "examples-{}.npy"
_AT_ONCE = 8192


class LabelTexts:
    """Features of the labels' texts.

    Args:
        rows: ``Rows`` of them by label id, without labels.
        keys: uint64 (num_labels,), see ``tfxc.data.label_texts.keys``.
        own_labels: int32 (examples,), the label whose text is the own one of each training
            example, -1 for none; or None.

    Example:
        >>> import scipy.sparse
        >>> rows = Rows.from_csr(scipy.sparse.identity(2, format="csr"), [[], []])
        >>> LabelTexts(rows, text_keys(["owl", ""])).given.tolist()
        [True, False]
    """

    def __init__(self, rows: Rows, keys: np.ndarray, own_labels: np.ndarray | None = None) -> None:
        self.rows = rows
        self.keys = keys
        self.own_labels = own_labels

    def __len__(self) -> int:
        return len(self.rows)

    def of_examples(self, numbers: np.ndarray) -> "LabelTexts":
        """Returns the same texts, with the own labels of some of the examples."""
        own = None if self.own_labels is None else self.own_labels[numbers]
        return LabelTexts(self.rows, self.keys, own)

    @property
    def given(self) -> np.ndarray:
        """bool (num_labels,), whether a label has a text."""
        return self.keys != text_keys([""])[0]


def features_of(texts: Sequence[str], text_features: Any) -> Rows:
    """Returns the ``Rows`` of texts, without labels.

    Args:
        texts: of labels.
        text_features: fitted ones.
    """
    parts = []
    for begin in range(0, max(1, len(texts)), _AT_ONCE):
        part = texts[begin : begin + _AT_ONCE]
        parts.append(Rows.of(text_features.kind, text_features.transform(part), [[]] * len(part)))
    return Rows.concatenate(parts)


def shortened(rows: Rows, length: int | None) -> Rows:
    """Returns the rows of tokens, of each text the first ones only.

    Args:
        rows: ``Rows``, perhaps with features next to the tokens, which stay.
        length: tokens that are kept; None for all, as of rows without tokens.
    """
    if length is None or rows.lengths is None:
        return rows
    arrays = dict(rows.arrays)
    bounds = rows.kind.columns[-1].bounds
    assert bounds is not None, "tokens are lists"
    arrays[bounds], arrays["tokens"], _ = first_of_each(arrays[bounds], arrays["tokens"], length)
    return Rows(rows.kind, arrays, **rows.labels, num_features=rows.num_features)


def save_label_texts(
    folder: str | Path, names: Sequence[str], texts: Sequence[str], text_features: Any
) -> None:
    """Writes texts, features and keys of labels into the subfolder of a prepared folder or a run.

    Args:
        folder: the prepared folder.
        names, texts: of the labels by id.
        text_features: fitted ones.
    """
    folder = Path(folder) / LABEL_TEXTS_FOLDER
    folder.mkdir(exist_ok=True)
    with atomic_file(folder / TEXTS_FILE) as stream:
        write_texts(stream, names, texts)
    for name, array in features_of(texts, text_features).arrays.items():
        write_array(folder / f"{name}.npy", array)
    write_array(folder / KEYS_FILE, text_keys(texts))


def write_texts(stream: IO[str], names: Sequence[str], texts: Sequence[str]) -> None:
    """Writes the labels that have a text, one on each line."""
    for name, text in zip(names, texts, strict=True):
        if text:
            stream.write(json_text({"label": name, "text": text}) + "\n")


def save_examples(folder: str | Path, split: str, own: np.ndarray, keys: np.ndarray) -> None:
    """Writes what is known of the texts of a split's examples.

    Args:
        folder: the prepared folder.
        split: its name.
        own: int32 (examples,), the label whose text is the example's own, or -1.
        keys: uint64 (examples,), of their texts.
    """
    folder = Path(folder) / LABEL_TEXTS_FOLDER
    folder.mkdir(exist_ok=True)
    write_array(folder / _OWN.format(split), own.astype(np.int32))
    write_array(folder / _EXAMPLES.format(split), keys.astype(np.uint64))


def load_label_texts(
    folder: str | Path, kind: "FeatureKind", num_features: int, split: str | None = None
) -> LabelTexts:
    """Returns the ``LabelTexts`` of a prepared folder.

    Args:
        folder: the prepared folder, or the assets of a run.
        kind, num_features: of its rows.
        split: whose examples' own labels are loaded; None for none.

    Raises:
        DataError: there are none, or a file is damaged.
    """
    if not has_label_texts(folder):
        raise DataError(
            "there are no label texts",
            where=folder,
            fix="name their file in data.label_texts, or set it to 'names'",
        )
    inner = Path(folder) / LABEL_TEXTS_FOLDER
    keys = read_array(inner / KEYS_FILE, fix=AGAIN)
    arrays = {name: read_array(inner / f"{name}.npy", fix=AGAIN) for name in kind.arrays}
    bounds = np.zeros(len(keys) + 1, np.int64)
    none = np.zeros(0, np.int32)
    rows = Rows(kind, arrays, label_indptr=bounds, label_ids=none, num_features=num_features)
    own = None if split is None else own_labels(folder, split)
    return LabelTexts(rows, keys, own)


def own_labels(folder: str | Path, split: str) -> np.ndarray:
    """Returns int32 (examples,), the label whose text is an example's own, -1 for none."""
    return read_array(Path(folder) / LABEL_TEXTS_FOLDER / _OWN.format(split), fix=AGAIN)


def example_keys(folder: str | Path, split: str) -> np.ndarray:
    """Returns uint64 (examples,), keys of the texts of a split's examples."""
    path = Path(folder) / LABEL_TEXTS_FOLDER / _EXAMPLES.format(split)
    return read_array(path, fix=AGAIN)


def label_texts_by_name(folder: str | Path) -> dict[str, str]:
    """Returns the texts of a prepared folder's labels, or of a run's, by name; those that have
    one.
    """
    return read_label_texts(Path(folder) / LABEL_TEXTS_FOLDER / TEXTS_FILE)
