"""Texts to the subword ids of a pretrained model."""

import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from annotated_types import Ge

from tfxc.core.declared import Natural
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.examples.kinds import TOKENS
from tfxc.data.text.base import COPY_AGAIN, Learner, TextFeatures, check_fitted, saving
from tfxc.data.text.subwords_pruning import kept_ids, ordered_pieces, vocabulary_of, without
from tfxc.data.text.terms import CutTexts
from tfxc.data.text.tokens import TokenRows
from tfxc.ops.csr import bounds_of
from tfxc.pretrained.folder import open_folder
from tfxc.pretrained.tokenizer_files import load_subwords, read_subwords, save_subwords

if TYPE_CHECKING:
    import tensorflow as tf

    from tfxc.ops.text.subwords import SubwordIds
    from tfxc.pretrained.tokenizer_files import Subwords


_BATCH = 4096


class PretrainedTokens(TextFeatures):
    """Subwords as a pretrained model was trained with, its special tokens around each text.

    There is little to learn from the texts: ``fit`` reads the folder. What was read is saved with
    the features, so that a run needs the folder no more. Id 0 is padding: where the model's own
    padding has another id, the two change places (and so do the rows of encoder ``pretrained``).

    A text that spells a special token, as ``[SEP]``, is cut as any other.

    Args:
        folder: the model's folder: config.json and its tokeniser's files; ``~`` and ``${VAR}`` are
            expanded. ``"keras_hub:NAME"`` takes a preset of keras-hub.
        max_length: ids of a text, special ones included; the text is cut before the last.
        checksum: eight digits of the vocabulary; another one is refused. ``fit`` finds it.
        min_count: pieces that occur less often in the training texts, as cut, are left out of the
            vocabulary; 0 keeps all. For runs that are pruned (recipe ``prune``): the rows of a
            model's folder are those of its whole vocabulary.

    Attributes:
        num_features: size of the vocabulary; None before ``fit``.
        num_truncated: texts that ``transform`` has cut so far.

    Raises:
        ConfigError: an argument has an impossible value; from ``fit``, a file of the folder is
            missing or damaged.

    Example:
        >>> tokens = PretrainedTokens("models/minilm").fit([])  # doctest: +SKIP
        >>> tokens.transform(["Hello"]).tokens.tolist()  # doctest: +SKIP
        [101, 7592, 102]
    """

    name = "pretrained"
    kind = TOKENS

    def __init__(
        self,
        folder: str | Path,
        max_length: Annotated[int, Ge(3)] = 128,
        checksum: str | None = None,
        min_count: Natural = 0,
    ) -> None:
        super().__init__()
        self._subwords: Subwords | None = None
        self._where = folder
        self.num_truncated = 0

    @property
    def subwords(self) -> "Subwords | None":
        """The tokenizer, ``tfxc.pretrained.tokenizer_files.Subwords``; None before ``fit``."""
        return self._subwords

    def vocabulary(self) -> list[str] | None:
        """Returns the list of pieces by id, None before ``fit``."""
        return None if self._subwords is None else vocabulary_of(self._subwords)

    def fit(self, text_lists: Iterable[Sequence[str]]) -> Self:
        """Reads the folder; returns ``self``. The texts are read with ``min_count`` only."""
        return super().fit(text_lists)

    def learner(self) -> Learner | None:
        """Reads the folder; a ``tfxc.data.text.base.Learner`` with ``min_count``, else None."""
        folder = open_folder(self._settings["folder"], "data.text_features.folder")
        self._take(read_subwords(folder), folder)
        if not self._settings["min_count"]:
            return None
        assert self.num_features is not None, "the folder has been read"
        counts = np.zeros(self.num_features, np.int64)

        def add(cut: CutTexts) -> np.ndarray:
            counts[:] += cut.totals
            return np.zeros(0, np.int32)

        def finish() -> np.ndarray:
            assert self._subwords is not None, "the folder has been read"
            kept = kept_ids(self._subwords, counts, self._settings["min_count"])
            pruned = without(self._subwords, kept)
            if "kept" not in pruned.settings:
                pruned.settings["checksum"] = checksum(pruned)
            self._subwords = pruned
            self.num_features = len(kept)
            self.num_truncated = 0
            self.__dict__.pop("_in_graph", None)  # cuts into the pieces of before
            return np.zeros(0, np.int32)

        return Learner(add, finish)

    @property
    def cuts_once(self) -> bool:
        """False: a text whose pieces were left out is cut into others."""
        return False

    def cut(self, texts: Sequence[str]) -> CutTexts:
        """Returns how often each piece occurs; pieces have no names here, but their ids."""
        rows = self.transform(texts)
        totals = np.bincount(rows.tokens, minlength=rows.num_features)
        return CutTexts(rows.indptr, rows.tokens, None, [], None, totals)

    def transform(self, texts: Sequence[str]) -> TokenRows:
        """Returns the ``TokenRows`` of a list of texts.

        Raises:
            ConfigError: ``fit`` has not been called, or tensorflow-text is missing.
        """
        num_features = check_fitted(self.num_features)
        lengths = [np.zeros(0, np.int64)]
        tokens = [np.zeros(0, np.int32)]
        for first in range(0, len(texts), _BATCH):
            ids, sizes, num_truncated = self._in_graph(texts[first : first + _BATCH])
            tokens.append(ids.numpy())
            lengths.append(sizes.numpy())
            self.num_truncated += int(num_truncated)
        indptr = bounds_of(np.concatenate(lengths))
        return TokenRows(indptr, np.concatenate(tokens), num_features)

    def graph(self, folder: str | Path | None = None) -> "SubwordIds":
        """Returns ``tfxc.ops.text.subwords.SubwordIds``, which turns texts into the same ids in a
        graph.

        It needs no ``folder``: see ``TextFeatures.graph``.
        """
        import tensorflow as tf

        from tfxc.ops.text.subwords import SubwordIds

        subwords = self._subwords
        assert subwords is not None, "fit comes first"
        try:
            return SubwordIds(
                subwords.settings,
                subwords.pieces,
                self._settings["max_length"],
                model=subwords.model,
                merges=subwords.merges,
            )
        except tf.errors.OpError as error:
            reason = error.message.split("}} ")[-1].split(" [Op:")[0]
            raise ConfigError(
                f"the tokeniser cannot be loaded ({reason})",
                where=self._where,
                fix="copy the tokeniser's files again",
            ) from error

    @functools.cached_property
    def _in_graph(self) -> "Callable[[Sequence[str]], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]":
        """Compiled function of texts -> ids, lengths, number of texts cut."""
        import tensorflow as tf

        ids = self.graph()

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
        def cut(texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            ragged, num_truncated = ids.ragged(texts)
            return ragged.flat_values, ragged.row_lengths(), num_truncated

        # Strings are converted here, so that a lone surrogate is reported like every other one.
        return lambda texts: cut([text.encode("utf-8", "replace") for text in texts])

    def save(self, folder: str | Path) -> None:
        check_fitted(self.num_features)
        assert self._subwords is not None, "it is fitted"
        with saving(folder, self.name, self.settings()) as scratch:
            save_subwords(self._subwords, scratch)

    def _load(self, folder: Path) -> None:
        try:
            self._take(load_subwords(folder), folder)
        except ConfigError as error:
            raise DataError(error.problem, where=folder, fix=COPY_AGAIN) from None

    def _take(self, subwords: "Subwords", where: str | Path) -> None:
        self._where = where
        digits = checksum(subwords)
        pruned = subwords.settings.get("checksum")
        wanted = pruned or self._settings["checksum"]
        if wanted not in (None, digits):
            raise ConfigError(
                f"the vocabulary has the checksum {digits} instead of {wanted}",
                where=where,
                fix="give the folder of the model the checksum was taken of, or remove checksum",
            )
        if not pruned:  # the digits among the settings are those of the whole vocabulary
            self._settings["checksum"] = digits
        self._subwords = subwords
        self.num_features = len(vocabulary_of(subwords))

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_in_graph"}


def checksum(subwords: "Subwords") -> str:
    """Returns eight hexadecimal digits of the pieces by id."""
    lines = "\n".join(ordered_pieces(subwords))
    return hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest()[:8]
