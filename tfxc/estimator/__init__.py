"""The scikit-learn estimator: extreme classification with ``fit`` and ``predict``."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from tfxc.core import registry
from tfxc.core.config import parse_config
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.storage.locks import scratch_folder
from tfxc.data.kinds import SPARSE, kind_of_features
from tfxc.data.rows import Rows
from tfxc.data.sources.base import ArraySource
from tfxc.data.text.registry import build_text_features
from tfxc.estimator.fitted_model import FittedModel
from tfxc.estimator.targets import label_sets, read_targets
from tfxc.runs.folder import RunFolder
from tfxc.training.interrupts import Stopped
from tfxc.training.loop import Trainer
from tfxc.training.start.word_vectors import start_from_vectors

_BATCH = 1024
_FIRST_K = 16  # labels looked at first where a threshold decides how many there are


class XCClassifier(ClassifierMixin, BaseEstimator):
    """Extreme classifier with scikit-learn's interface.

    Args:
        encoder: name of an encoder, or a dict of its name and arguments.
        head: name or dict of a head, e.g. ``{"name": "mach", "num_buckets": 50,
            "num_repetitions": 8}``.
        objective: name or dict of an objective.
        techniques: list of names or dicts of techniques.
        epochs: passes over the examples.
        batch_size: examples of one weight update.
        learning_rate: of Adam; it decreases to zero over the training steps.
        text_features: name or dict of text features; None means ``"tfidf"`` for texts.
        threshold: score from which a label is predicted where an example may have several. Scores
            are the head's: 0 is a probability of one half for ``dense`` with ``sigmoid``.
        random_state: seed of weights, dropout and the order of examples.
        verbose: 1 shows the progress of training.

    Attributes:
        classes_: the classes by label id; for an indicator matrix its column numbers.
        n_features_in_: width of given features; not set for texts.
        text_features_: the fitted text features, or None.

    ``X`` is a list of texts, a sparse matrix or a dense array (n, num_features). ``y`` is a 1-D
    array of classes (one each), a list of label lists (any number each), or a binary matrix
    (n, num_classes), dense or sparse. A list of lists is always taken as label lists.

    Raises:
        ConfigError: an unknown method or a wrong argument (when fitting).
        DataError: ``X`` or ``y`` of another form.

    Example:
        >>> texts = ["red fox", "blue sea", "red rose", "deep blue"] * 8
        >>> labels = [["red", "animal"], ["blue"], ["red"], ["blue"]] * 8
        >>> model = XCClassifier(epochs=30, batch_size=16).fit(texts, labels)
        >>> model.predict(["a red fox", "the blue"])
        [['red', 'animal'], ['blue']]
        >>> best, scores = model.predict_top_k(["the blue"], k=2)
        >>> best[0, 0], scores.shape
        ('blue', (1, 2))
    """

    def __init__(
        self,
        encoder: Mapping[str, Any] | str = "bag_mlp",
        head: Mapping[str, Any] | str = "dense",
        objective: Mapping[str, Any] | str = "sigmoid",
        techniques: Sequence[Mapping[str, Any] | str] = (),
        *,
        epochs: float = 10,
        batch_size: int = 256,
        learning_rate: float = 0.01,
        text_features: Mapping[str, Any] | str | None = None,
        threshold: float = 0.0,
        random_state: int = 0,
        verbose: int = 0,
    ) -> None:
        self.encoder = encoder
        self.head = head
        self.objective = objective
        self.techniques = techniques
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.text_features = text_features
        self.threshold = threshold
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self,
        X: Sequence[Any] | np.ndarray | scipy.sparse.csr_matrix,
        y: Sequence[Any] | np.ndarray | scipy.sparse.csr_matrix,
    ) -> "XCClassifier":
        """Trains on examples ``X`` and their labels ``y``; returns ``self``."""
        if y is None:
            raise DataError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        matrix = self._fit_features(X)
        check_consistent_length(matrix, y)
        self._targets, labels = read_targets(y)
        self.classes_ = self._targets.classes
        source = ArraySource(self._rows(matrix, labels), len(self.classes_))
        config = parse_config(self._config(), where="XCClassifier")
        self._fitted = FittedModel(config, source, self.text_features_)
        self._fitted.count(labels)
        self._train(config, source)
        return self

    def predict(
        self, X: Sequence[Any] | np.ndarray | scipy.sparse.csr_matrix
    ) -> list[list[Any]] | np.ndarray | scipy.sparse.csr_matrix:
        """Predictions in the form ``y`` had.

        Where an example may have several labels, those that score at least ``threshold``, best
        first in lists; for 1-D classes the best one.
        """
        rows = self._rows_of(X)
        if not self._targets.multi_label:
            return self._targets.from_ids(self._search(rows, 1)[0])
        return self._targets.from_ids(self._above_threshold(rows))

    def predict_top_k(
        self, X: Sequence[Any] | np.ndarray | scipy.sparse.csr_matrix, k: int = 5
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best classes of every example, best first.

        Returns:
            classes (n, k) and scores float32 (n, k).

        Raises:
            ConfigError: k exceeds the number of classes.
        """
        rows = self._rows_of(X)
        if not 1 <= k <= len(self.classes_):
            raise ConfigError(f"k of 1 to {len(self.classes_)} (the classes) expected, found {k}")
        ids, scores = self._search(rows, k)
        return self.classes_[ids], scores

    def score(
        self,
        X: Sequence[Any] | np.ndarray | scipy.sparse.csr_matrix,
        y: Sequence[Any] | np.ndarray | scipy.sparse.csr_matrix,
        sample_weight: Sequence[float] | np.ndarray | None = None,
    ) -> float:
        """Accuracy for one class each; where there may be several labels, precision at 1.

        Precision at 1 is the share of examples whose best label is a true one.
        """
        check_is_fitted(self)
        if not self._targets.multi_label:
            return super().score(X, y, sample_weight)
        best, _ = self._search(self._rows_of(X), 1)
        if self._targets.form == "lists":
            best = self.classes_[best]
        pairs = zip(best[:, 0].tolist(), label_sets(y, self._targets), strict=True)
        return float(np.average([label in true for label, true in pairs], weights=sample_weight))

    def save(self, folder: str | Path) -> None:
        """Writes a run folder that ``tfxc predict``, ``tfxc export`` and ``tfxc info`` read.

        Raises:
            ConfigError: the folder holds something else than a run.
            DataError: a class's name cannot be written as one line.
        """
        check_is_fitted(self)
        self._fitted.save(Path(folder), map(str, self.classes_.tolist()), self.text_features_)

    def _config(self):
        """The config tree of this training run; its data section only names the estimator."""
        seed = self.random_state
        if not isinstance(seed, (int, np.integer)):
            seed = check_random_state(seed).randint(2**31)
        text_features = self.text_features_
        if text_features is not None:
            text_features = {"name": text_features.name, **text_features.settings()}
        return {
            "run": "estimator",
            "seed": int(seed),
            "data": {"name": "estimator", "train": "fit", "text_features": text_features},
            "encoder": _section(self.encoder),
            "head": _section(self.head),
            "objective": _section(self.objective),
            "techniques": [_section(technique) for technique in self.techniques],
            "training": {
                "batch_size": self.batch_size,
                "epochs": self.epochs,
                "optimizer": {"name": "adam", "learning_rate": self.learning_rate},
                "schedule": {"name": "linear"},
            },
        }

    def _train(self, config, source):
        quiet = contextlib.ExitStack()
        with quiet, scratch_folder("fit") as folder:
            if not self.verbose:
                quiet.enter_context(contextlib.redirect_stdout(io.StringIO()))
                quiet.enter_context(contextlib.redirect_stderr(io.StringIO()))
            run = RunFolder(folder)
            start_from_vectors(self._fitted.model, config, lambda: self.text_features_)
            trainer = Trainer(self._fitted.model, source, config, run)
            try:
                self._fitted.summary = trainer.fit()
            except Stopped:
                raise KeyboardInterrupt from None
            run.load_weights(self._fitted.model)  # techniques may have written other ones

    def _fit_features(self, X):
        """A float32 CSR matrix, or a dense one where the encoder reads such."""
        if _is_texts(X):
            features = build_text_features(_section(self.text_features or "tfidf"))
            self.text_features_ = features.fit([_checked_texts(X)])
            vars(self).pop("n_features_in_", None)
            return features.transform(list(X))
        if self.text_features is not None:
            raise ConfigError(
                "text_features expect texts, found a matrix", fix="leave text_features at None"
            )
        self.text_features_ = None
        return self._matrix(X, reset=True)

    def _rows(self, features, labels):
        texts = self.text_features_
        kind = kind_of_features(features, "X") if texts is None else texts.kind
        return Rows.of(kind, features, labels)

    def _rows_of(self, X):
        check_is_fitted(self)
        if _is_texts(X) != (self.text_features_ is not None):
            expected = "a matrix" if self.text_features_ is None else "texts"
            raise DataError(f"{expected} as in fit expected", where="X")
        if self.text_features_ is not None:
            matrix = self.text_features_.transform(_checked_texts(X))
        else:
            matrix = self._matrix(X, reset=False)
        return self._rows(matrix, [[]] * matrix.shape[0])

    def _matrix(self, X, reset):
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float32, reset=reset)
        input_kind = registry.get("encoder", _section(self.encoder)["name"]).input_kind
        if input_kind != SPARSE.name and not scipy.sparse.issparse(X):
            return X
        X = scipy.sparse.csr_matrix(X)
        X.sum_duplicates()
        return X

    def _search(self, rows, k):
        return self._fitted.search(rows, k, _BATCH)

    def _above_threshold(self, rows):
        """Label ids of every example whose score reaches the threshold."""
        found, left, k = [None] * len(rows), np.arange(len(rows)), _FIRST_K
        while len(left):
            k = min(k, len(self.classes_))
            ids, scores = self._search(rows.select(left), k)
            keep = scores >= self.threshold
            complete = ~keep[:, -1] | (k == len(self.classes_))
            for place in np.flatnonzero(complete):
                found[left[place]] = ids[place][keep[place]].tolist()
            left, k = left[~complete], 4 * k
        return found

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.string = True
        tags.classifier_tags.multi_label = True
        return tags


def _section(method):
    """A method's config section from its name or dict."""
    if isinstance(method, str):
        return {"name": method}
    if isinstance(method, dict) and isinstance(method.get("name"), str):
        return dict(method)
    raise ConfigError(
        f"a method's name or a dict with 'name' expected, found {method!r}",
        fix='pass e.g. "dense" or {"name": "mach", "num_buckets": 50}',
    )


def _is_texts(X):
    one_dimensional = np.ndim(X) == 1 if hasattr(X, "ndim") else isinstance(X, (list, tuple))
    return bool(one_dimensional and len(X) and isinstance(next(iter(X)), str))


def _checked_texts(X):
    for number, text in enumerate(X):
        if not isinstance(text, str):
            raise DataError(f"texts expected, found {text!r} at index {number}", where="X")
    return list(X)
