"""What a preparation does with the texts of labels."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.core.messages import NOTES
from tfxc.data.label_texts.keys import labels_of_texts, text_keys
from tfxc.data.label_texts.prepared import save_examples, save_label_texts
from tfxc.data.reading.label_texts import (
    read_label_texts,
    repeated_texts,
    text_of_name,
    texts_of_labels,
)
from tfxc.data.reading.source_files import NAMES, source_path
from tfxc.data.text.registry import given_terms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tfxc.core.settings import DataSettings
    from tfxc.data.examples.label_ids import LabelNumbering


class LabelTextsPreparation:
    """The texts of the labels of one preparation.

    Args:
        settings: ``DataSettings`` with ``label_texts``.
        text_features: not yet fitted.
        held_out: labels that have left the training split.

    Attributes:
        texts: of the labels by id; those without a training example come last.
        num_trained: labels of the training split.

    Raises:
        DataError: the file cannot be read.
        ConfigError: the text features need more than texts.
    """

    def __init__(
        self, settings: "DataSettings", text_features: Any, held_out: "Iterable[int | str]" = ()
    ) -> None:
        assert settings.label_texts is not None
        if given_terms(text_features) is not None:
            raise ConfigError(
                "label_texts need text features that are made from texts alone, and 'given' ones "
                "are not",
                where="data.text_features.terms",
                fix="choose e.g. 'tfidf'",
            )
        self._settings = settings
        self._given = None
        self._held_out = sorted(held_out)
        if settings.label_texts != NAMES:
            path = source_path(settings.label_texts)
            self._given = read_label_texts(path, settings.max_line_bytes)
        self.texts: list[str] = []
        self._keys = np.zeros(0, np.uint64)
        self.num_trained = 0

    def number(self, numbering: "LabelNumbering") -> list[str]:
        """Adds the labels of the file that the training split does not have.

        Args:
            numbering: whose training labels are numbered.

        Returns:
            list: texts of the labels that have a training example, which features may learn from.

        Raises:
            DataError: labels without a text.
        """
        assert numbering.vocabulary is not None and numbering.label_counts is not None
        if self._given is not None:
            names = numbering.vocabulary.names
            counts = numbering.label_counts.tolist()
            trained = [name for name, count in zip(names, counts, strict=True) if count]
            texts_of_labels(self._given, trained, self._settings)
            numbering.extend(self._given)
        else:
            numbering.extend([numbering.name_of(label) for label in self._held_out])
        names = numbering.vocabulary.names
        self.texts = [
            text_of_name(name) if self._given is None else self._given.get(name, "")
            for name in names
        ]
        self._keys = text_keys(self.texts)
        repeated = repeated_texts(self.texts)
        if repeated:
            NOTES.warning(
                f"{repeated:,} of {len(self.texts):,} labels have the same text as another "
                "label: a model that reads nothing but texts gives both the same score"
            )
        ids = np.flatnonzero(numbering.label_counts > 0).tolist()
        self.num_trained = len(ids)
        return [self.texts[label] for label in ids if self.texts[label]]

    def save(self, folder: str | Path, names: "Sequence[str]", text_features: Any) -> None:
        """Writes texts and features of all labels."""
        save_label_texts(folder, names, self.texts, text_features)

    def save_examples(self, folder: str | Path, split: str, keys: np.ndarray) -> None:
        """Writes what is known of the texts of a split's examples.

        Args:
            keys: those of ``keys_of_examples``, in the order of the records.
        """
        own_labels = labels_of_texts(keys[:, 1], self._keys)
        save_examples(folder, split, own_labels, keys[:, 0])
