"""The scikit-learn estimator: extreme classification with ``fit`` and ``predict``."""

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from tfxc.core import registry
from tfxc.core.config import parse_config
from tfxc.core.declared import check_choice, check_k
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.messages import NOTES, printed
from tfxc.data.examples.kinds import IMAGE, SPARSE, kind_of_features
from tfxc.data.examples.rows import Rows
from tfxc.data.reading.inspection.contents import contents_of
from tfxc.data.reading.inspection.presets import model_of, usual_preset
from tfxc.data.reading.label_texts import text_of_name
from tfxc.data.reading.parsing.label_cells import label_of
from tfxc.data.reading.source_files import NAMES
from tfxc.data.sources.base import ArraySource
from tfxc.data.text.registry import build_text_features
from tfxc.estimator.class_texts import label_texts_of, texts_of_classes
from tfxc.estimator.examples import (
    Examples,
    checked_images,
    checked_weights,
    is_texts,
    listed_texts,
)
from tfxc.estimator.fitted_model import FitData, FittedModel, check_recipe
from tfxc.estimator.targets import Targets, read_targets
from tfxc.inference.predictors import Predictions
from tfxc.runs.loaded import load_run

_BATCH = 1024
_METHODS = ("encoder", "head", "objective", "recipe", "text_features")
_LINEAR = "xr_linear"
# Parameters without a meaning for a linear ranker.
_NETWORK_PARAMETERS = (
    "encoder",
    "head",
    "objective",
    "techniques",
    "epochs",
    "batch_size",
    "learning_rate",
    "early_stopping",
    "class_weight",
    "label_texts",
)
# Recipes whose runs an estimator can load.
_RECIPES = ("fit", "distill", _LINEAR)
_LEAST = np.finfo(np.float32).tiny  # of probabilities whose logarithm is taken


class XCClassifier(ClassifierMixin, BaseEstimator):
    """Extreme classifier with scikit-learn's interface.

    Args:
        encoder: name of an encoder, or a dict of its name and arguments.
        head: name or dict of a head, e.g. ``{"name": "mach", "num_buckets": 50,
            "num_repetitions": 8}``.
        objective: name or dict of an objective.
        techniques: list of names or dicts of techniques.
        recipe: None trains texts as ``tfxc train FILE`` does without an option, as long as the
            parameters of networks, from ``encoder`` to ``class_weight``, and ``text_features`` stay
            as they are; else, and with ``sample_weight`` or ``callbacks``, it is ``"fit"``.
            ``"fit"`` trains a network; ``"xr_linear"``, or a dict with its arguments, e.g.
            ``{"name": "xr_linear", "ranker": {"only_topk": 20}}``, a linear ranker over a tree of
            labels, on texts or matrices: the parameters of networks then stay as they are.
        epochs: passes over the examples.
        batch_size: examples of one weight update.
        learning_rate: of Adam; it decreases to zero over the training steps.
        text_features: name or dict of text features; None means ``"tfidf"`` for texts.
        label_texts: a text of each class, which head ``"label_text"`` reads: a dict by class, or
            ``"names"`` for the classes themselves, ``_`` and ``-`` read as blanks. Classes of the
            dict that ``y`` does not have are found by their texts, by this head alone. With
            ``{"name": "dense", "start": "label_texts"}`` the weights of the classes begin with
            them; with ``{"name": "xr_linear", "label_text_rows": True}`` they are examples. If
            nothing is chosen, names are examples where ``tfxc train FILE`` would have them so.
        early_stopping: stop after this many epochs in a row without a better P@1 on the
            ``validation_data`` of ``fit``, and keep the best weights; None trains all epochs.
        class_weight: ``"balanced"``, or a dict of the classes' weights (others have 1), for
            objectives that have ``class_weight``.
        decision: how probabilities and the labels to predict are learned: a dict like the section
            ``decision`` of a config, e.g. ``{"probabilities": "rows", "labels": "f_measure"}``. It
            is learned of the ``validation_data``; a linear ranker without any learns it of folds of
            the examples. None learns one where ``fit`` chooses a ranker for texts.
        threshold: score from which a label is predicted where an example may have several. None
            predicts what ``decision`` has learned; without one, the labels of a probability of one
            half or more where the model decides on each label by itself and has probabilities, as
            with the objective ``"sigmoid"``. Else the best label alone is predicted.
        random_state: seed of weights, dropout and the order of examples.
        verbose: 1 prints the messages of training, which the logger ``tfxc`` has in any case.

    Attributes:
        classes_: the classes by label id; for an indicator matrix its column numbers.
        n_features_in_: width of given features; not set for texts.
        text_features_: the fitted text features, or None.
        validation_metrics_: metrics of the ``validation_data`` after training, by name; empty
            without any.

    ``X`` is a list of texts, a sparse matrix, a dense array (n, num_features), or for encoders of
    images a uint8 array (n, height, width, channels). ``y`` is a 1-D
    array of classes (one each), a list of label lists (any number each), or a binary matrix
    (n, num_classes), dense or sparse. A list of lists is always taken as label lists.

    Arguments of encoder, head, objective and text features are parameters, too, e.g.
    ``head__num_buckets`` in ``set_params`` and the grids of ``GridSearchCV``.

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

        A class that no example has is found by its text:

        >>> names = {"red": "red", "blue": "blue", "animal": "a fox or a lamb", "flower": "a rose"}
        >>> model = XCClassifier(head="label_text", objective="decoupled_softmax",
        ...     label_texts=names, epochs=30, batch_size=16).fit(texts, labels)
        >>> model.classes_.tolist()
        ['animal', 'blue', 'red', 'flower']
    """

    def __init__(
        self,
        encoder: Mapping[str, Any] | str = "bag_mlp",
        head: Mapping[str, Any] | str = "dense",
        objective: Mapping[str, Any] | str = "sigmoid",
        techniques: Sequence[Mapping[str, Any] | str] = (),
        *,
        recipe: Mapping[str, Any] | str | None = None,
        epochs: float = 10,
        batch_size: int = 256,
        learning_rate: float = 0.01,
        early_stopping: int | None = None,
        class_weight: Mapping[Any, float] | str | None = None,
        text_features: Mapping[str, Any] | str | None = None,
        label_texts: Mapping[Any, str] | str | None = None,
        decision: Mapping[str, Any] | None = None,
        threshold: float | None = None,
        random_state: int = 0,
        verbose: int = 0,
    ) -> None:
        self.encoder = encoder
        self.head = head
        self.objective = objective
        self.techniques = techniques
        self.recipe = recipe
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.early_stopping = early_stopping
        self.class_weight = class_weight
        self.text_features = text_features
        self.label_texts = label_texts
        self.decision = decision
        self.threshold = threshold
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self,
        X: Examples,
        y: Examples,
        sample_weight: Sequence[float] | np.ndarray | None = None,
        *,
        validation_data: tuple[Examples, Examples] | None = None,
        callbacks: Sequence[Any] = (),
    ) -> "XCClassifier":
        """Trains on examples ``X`` and their labels ``y``.

        Args:
            X: examples.
            y: their labels.
            sample_weight: (n,), factors of the examples' losses; scaled to a mean of 1.
            validation_data: X and y that are measured after each epoch.
            callbacks: Keras callbacks that watch the training of a network; those that change it
                are refused, see ``tfxc.training.callbacks.Callbacks``.

        Returns:
            ``self``.
        """
        if y is None:
            raise DataError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        self._chosen: dict[str, Any] = {}
        X = listed_texts(X)
        # What would fail after the training only is refused before it.
        if not isinstance(self.threshold, (int, float, np.number, type(None))):
            problem = f"must be a number or None, not {self.threshold!r}"
            raise ConfigError(problem, where="threshold", fix="change it")
        is_pair = isinstance(validation_data, (tuple, list)) and len(validation_data) == 2
        if validation_data is not None and not is_pair:
            raise ConfigError(
                "this is not a pair of examples and their labels",
                where="validation_data",
                fix="pass validation_data=(X, y)",
            )
        if self.decision is not None and validation_data is None and not self._is_linear:
            raise ConfigError(
                "a decision is learned of validation_data",
                where="decision",
                fix="pass validation_data=(X, y) to fit, or leave decision out",
            )
        self._targets, labels = read_targets(y)
        check_consistent_length(X, y)
        if is_texts(X) and sample_weight is None and not callbacks:
            self._chosen = self._usual_model(X, labels)
        self._check_recipe()
        texts = self._read_label_texts(X)
        label_texts = None
        if is_texts(X):
            chosen = self._chosen.get("data", {}).get("text_features", "tfidf")
            features = build_text_features(_section(self.text_features or chosen))
            learned = [X]
            if texts:  # of the classes that there are examples of
                seen = sorted(set(itertools.chain.from_iterable(labels)))
                learned.append([texts[label] for label in seen])
            self.text_features_ = features.fit(learned)
            if hasattr(self, "n_features_in_"):
                del self.n_features_in_
            label_texts = label_texts_of(texts, X, features) if texts else None
            matrix = features.transform(X)
        elif self.text_features is not None:
            raise ConfigError(
                "text_features are given, but X is a matrix", fix="leave text_features at None"
            )
        else:
            self.text_features_ = None
            matrix = self._matrix(X, reset=True)
        check_consistent_length(matrix, y)
        self.classes_ = self._targets.classes
        rows = self._rows(matrix, labels)
        source = ArraySource(rows, len(self.classes_), label_texts=label_texts)
        config = parse_config(self._config(validation_data is not None), where="XCClassifier")
        weights = None if sample_weight is None else checked_weights(sample_weight, len(labels))
        with printed(this_thread=True) if self.verbose else contextlib.nullcontext():
            self._fitted = _class_of_model(config.recipe.name)(config, source, self.text_features_)
            self._fitted.describe(labels, texts)
            dev = None
            if validation_data is not None:
                dev_X, dev_y = validation_data
                dev_rows = self._rows_of(dev_X, self._targets.ids_of(dev_y))
                dev = ArraySource(dev_rows, len(self.classes_))
            names = self._targets.names
            # Whether each training example has one label, and the names of two labels.
            metric_labels = (self._fitted.single_label, names if len(names) == 2 else ())
            data = FitData(source, dev, metric_labels, weights)
            self._fitted.train(data, callbacks)
            self._fitted.decide(data)
        self.validation_metrics_ = self._fitted.summary.get("dev", {})
        return self

    def predict(self, X: Examples) -> list[list[Any]] | np.ndarray | scipy.sparse.csr_matrix:
        """Returns predictions in the form ``y`` had.

        Where an example may have several labels, those that reach ``threshold``, best first in
        lists; for 1-D classes the best one.
        """
        rows = self._rows_of(X)
        if not self._targets.multi_label:
            return self._targets.from_ids(self._fitted.best(rows, _BATCH)[:, None])
        return self._targets.from_ids(self._fitted.predict(rows, _BATCH, self.threshold))

    def predict_top_k(
        self, X: Examples, k: int = 5, probabilities: bool | None = None
    ) -> Predictions:
        """Returns the k best classes of every example, best first.

        Args:
            X: examples.
            k: classes per example.
            probabilities: whether to return probabilities instead of scores; None does so where the
                model has any.

        Returns:
            ``Predictions``, as of ``tfxc.Run.predict``: ``labels``, classes (n, k), and ``scores``,
            float32 (n, k).

        Raises:
            ConfigError: k exceeds the number of classes, or the model has no probabilities.
        """
        rows = self._rows_of(X)
        check_k(k, len(self.classes_))
        likely = self._fitted.model.has_probabilities if probabilities is None else probabilities
        ids, scores = self._fitted.search(rows, k, _BATCH, likely)
        return Predictions(self.classes_[ids], scores)

    def decision_function(self, X: Examples) -> np.ndarray:
        """Returns the score of every class.

        For two 1-D classes it is one number: the log-odds of the second where the model decides on
        each class by itself and has probabilities of its own, else the second's score less the
        first's.

        Returns:
            float32 (n, classes), in the order of ``classes_``; (n,) for two 1-D classes.
        """
        check_is_fitted(self)
        if self._targets.multi_label or len(self.classes_) != 2:
            return self._all_scores(X)
        model = self._fitted.model
        natively = model.has_probabilities and model.decision.calibration is None
        if model.decides_each_label and natively:
            logs = np.log(self._likely(X).clip(_LEAST).astype(np.float64))
            return logs[:, 1] - logs[:, 0]
        scores = self._all_scores(X)
        return scores[:, 1] - scores[:, 0]

    @property
    def predict_proba(self) -> Callable[[Any], np.ndarray]:
        """``predict_proba(X)``: the probability of every class, float32 (n, classes).

        Where an example has one class, the probabilities of an example add up to 1; those of a
        ``"sigmoid"``, which are of each class by itself, are scaled to that. Classes are in the
        order of ``classes_``.

        Raises:
            AttributeError: the recipe is ``xr_linear``, without a ``decision`` on probabilities.
            ConfigError: when called, the model has no probabilities.
        """
        if self._is_linear and not (self._decision or {}).get("probabilities"):
            raise AttributeError(
                "recipe 'xr_linear' has no predict_proba of its own. Set "
                "decision={'probabilities': 'rows'}"
            )
        return self._likely

    def _likely(self, X: Examples) -> np.ndarray:
        shares = self._all_scores(X, probabilities=True)
        if self._targets.multi_label:
            return shares
        sums = shares.sum(1, keepdims=True)
        return np.where(sums > 0, shares / np.where(sums > 0, sums, 1), 1 / shares.shape[1])

    def score(
        self, X: Examples, y: Examples, sample_weight: Sequence[float] | np.ndarray | None = None
    ) -> float:
        """Returns accuracy for one class each; where there may be several labels, precision at 1.

        Precision at 1 is the share of examples whose best label is a true one.
        """
        check_is_fitted(self)
        if not self._targets.multi_label:
            return super().score(X, y, sample_weight)
        best = self._fitted.best(self._rows_of(X), _BATCH)
        pairs = zip(best.tolist(), self._targets.ids_of(y), strict=True)
        return float(np.average([label in true for label, true in pairs], weights=sample_weight))

    def save(self, folder: str | Path) -> None:
        """Writes a run folder that ``tfxc predict``, ``tfxc export`` and ``tfxc info`` read.

        A run that ``save`` has written there before is replaced.

        Raises:
            ConfigError: the folder holds something else than a run, or a run of ``tfxc train``.
            DataError: a class's name cannot be written as one line.
        """
        check_is_fitted(self)
        if (Path(folder) / "log.txt").exists():
            raise ConfigError(
                "this is a run of tfxc train, which would be replaced",
                where=folder,
                fix="save to another folder, or delete this one first",
            )
        threshold = None if self.threshold is None else float(self.threshold)
        names = self._targets.names
        renamed = [name for name in names if str(label_of(name)) != name]
        if renamed:
            NOTES.warning(
                f"{len(renamed):,} classes have names that no file can give them, as "
                f"{renamed[0]!r}, which is read as {str(label_of(renamed[0]))!r}: the saved run "
                "cannot be measured on files"
            )
        self._fitted.save(Path(folder), names, self.text_features_, threshold)

    @classmethod
    def load(cls, folder: str | Path) -> "XCClassifier":
        """Returns a fitted estimator from a run folder, of ``save`` or of ``tfxc train``.

        Its parameters are those of the run, so that a ``clone`` of a saved estimator trains the
        same model. What an estimator has no parameter for, such as another optimizer or schedule,
        a clone trains as an estimator does.

        Args:
            folder: the run; its classes are the names of its labels.

        Raises:
            CheckpointError: no run.
            ConfigError: a run of a recipe whose model is made of several.
        """
        loaded = load_run(folder)
        config = loaded.config
        check_recipe(loaded, [*_RECIPES])
        fitted = _class_of_model(config.recipe.name).of_run(loaded)
        names = np.empty(len(loaded.vocabulary.names), object)
        names[:] = loaded.vocabulary.names
        if config.recipe.name == _LINEAR:
            estimator = cls(recipe=config.recipe.section())
        else:
            # What ``fit`` writes into the config of a network, as the parameters it comes from.
            training = config.training
            params: dict[str, Any] = {
                key: part.section()
                for key, part in config.network_sections.items()
                if part is not None
            }
            params["techniques"] = [method.section() for method in config.techniques]
            params["epochs"] = training.epochs
            params["batch_size"] = training.batch_size
            weights = params["objective"].pop("class_weight", None)
            if weights is not None:
                is_name = isinstance(weights, str)
                params["class_weight"] = (
                    weights if is_name else dict(zip(names, weights, strict=True))
                )
            optimizer = training.optimizer.section()
            if optimizer["name"] == "adam" and "learning_rate" in optimizer:
                params["learning_rate"] = optimizer["learning_rate"]
            if training.early_stopping is not None:
                params["early_stopping"] = training.early_stopping.patience
            estimator = cls(recipe="fit", **params)
        estimator.random_state = config.seed
        estimator.threshold = config.evaluation.threshold
        if config.decision is not None:
            estimator.decision = config.decision.model_dump()
        estimator._fitted = fitted
        estimator.classes_ = names
        estimator._targets = Targets("single" if loaded.single_label else "lists", names)
        estimator.text_features_ = loaded.text_features
        estimator.validation_metrics_ = {}
        if loaded.text_features is not None:
            estimator.text_features = config.data.text_features
        elif not loaded.kind.is_image:
            estimator.n_features_in_ = loaded.manifest["num_features"]
        if fitted.label_texts:
            texts = list(fitted.label_texts)
            same = texts == [text_of_name(str(name)) for name in names]
            by_class = dict(zip(names.tolist(), texts, strict=True))
            estimator.label_texts = NAMES if same else by_class
        return estimator

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters; ``deep`` adds the arguments of methods, as ``head__num_buckets``."""
        params = super().get_params(deep)
        for name in _METHODS if deep else ():
            params |= _nested(name, params[name])
        return params

    def set_params(self, **params: object) -> "XCClassifier":
        """Sets parameters, also ``head__num_buckets`` and ``recipe__ranker__threshold``.

        Returns:
            ``self``.

        Raises:
            ConfigError: ``a__b__c`` where the argument ``b`` of ``a`` is no dict.
        """
        nested = {key for key in params if key.partition("__")[0] in _METHODS and "__" in key}
        super().set_params(**{key: params[key] for key in params if key not in nested})
        for key in sorted(nested):
            name, *path = key.split("__")
            method = getattr(self, name)
            unset = "fit" if name == "recipe" else "tfidf"
            section = _section(unset if method is None else method)
            setattr(self, name, _with(section, path, params[key], key))
        return self

    def _config(self, measured: bool = False) -> dict[str, Any]:
        """Returns the config tree of this training run; its data section only names the
        estimator.
        """
        seed = self.random_state
        if not isinstance(seed, (int, np.integer)):
            seed = check_random_state(seed).randint(2**31)
        text_features = self.text_features_
        if text_features is not None:
            text_features = {"name": text_features.name, **text_features.settings()}
        plain = {
            "run": "estimator",
            "seed": int(seed),
            "data": {
                "name": "estimator",
                "train": "fit",
                "text_features": text_features,
                "label_texts": None if self._label_texts is None else "fit",
            },
            "decision": None if self._decision is None else dict(self._decision),
        }
        if self._is_linear:
            return {**plain, "recipe": self._recipe}
        stopping = {}
        if self.early_stopping is not None:
            if not measured:
                raise ConfigError(
                    "early_stopping needs validation_data",
                    where="XCClassifier.fit",
                    fix="pass validation_data=(X, y), or leave early_stopping at None",
                )
            stopping = {"early_stopping": {"patience": self.early_stopping}}
        if self._chosen:
            parts = ("encoder", "head", "objective", "training")
            return {**plain, **{part: self._chosen[part] for part in parts}}
        return {
            **plain,
            "encoder": _section(self.encoder),
            "head": _section(self.head),
            "objective": self._objective(),
            "techniques": [_section(technique) for technique in self.techniques],
            "training": {
                "batch_size": self.batch_size,
                "epochs": self.epochs,
                "optimizer": {"name": "adam", "learning_rate": self.learning_rate},
                "schedule": {"name": "linear"},
                **stopping,
            },
        }

    def _objective(self) -> dict[str, Any]:
        """Returns the objective's section, with the weights of the classes."""
        section = _section(self.objective)
        if self.class_weight is None:
            return section
        if isinstance(self.class_weight, str):
            return section | {"class_weight": self.class_weight}
        unknown = set(self.class_weight) - set(self.classes_.tolist())
        if unknown:
            raise ConfigError(
                f"{min(map(repr, unknown))} is not a class in y",
                where="class_weight",
                fix="leave it out",
            )
        weights = [float(self.class_weight.get(label, 1)) for label in self.classes_.tolist()]
        return section | {"class_weight": weights}

    @property
    def _is_linear(self) -> bool:
        return self._recipe["name"] == _LINEAR

    @property
    def _recipe(self) -> dict[str, Any]:
        """The section of the recipe; of None, that which ``fit`` has chosen."""
        if self.recipe is not None:
            return _section(self.recipe)
        return _section(vars(self).get("_chosen", {}).get("recipe", "fit"))

    @property
    def _decision(self) -> Mapping[str, Any] | None:
        """The section of the decision; of None, that which ``fit`` has chosen."""
        if self.decision is not None:
            return self.decision
        return vars(self).get("_chosen", {}).get("decision")

    @property
    def _label_texts(self) -> Mapping[Any, str] | str | None:
        """The texts of the classes; of None, those which ``fit`` has chosen."""
        if self.label_texts is not None:
            return self.label_texts
        return vars(self).get("_chosen", {}).get("data", {}).get("label_texts")

    def _usual_model(self, X: Sequence[str], labels: list[list[int]]) -> dict[str, Any]:
        """Returns the sections of the config that ``tfxc train`` makes of such texts; empty where
        the user has chosen something.
        """
        plain = type(self)()
        names = ("recipe", "text_features", *_NETWORK_PARAMETERS)
        if any(getattr(self, name) not in (getattr(plain, name), []) for name in names):
            return {}
        classes = self._targets.names
        contents = contents_of(X, [[classes[label] for label in each] for each in labels])
        return model_of(contents, usual_preset(contents))

    def _check_recipe(self) -> None:
        """Refuses an unknown recipe, and parameters that it has no use for."""
        section = self._recipe
        if not self._is_linear:
            check_choice("recipe", section["name"], ("fit", _LINEAR))
            arguments = [key for key in section if key != "name"]
            if arguments:
                raise ConfigError(
                    "recipe 'fit' has no arguments",
                    where=f"recipe.{arguments[0]}",
                    fix="leave it out",
                )
            return
        plain = type(self)()
        for name in _NETWORK_PARAMETERS:
            if name != "label_texts" and getattr(self, name) not in (getattr(plain, name), []):
                raise ConfigError(
                    f"recipe {_LINEAR!r} does not use this parameter",
                    where=name,
                    fix="leave it at its default, or use recipe 'fit'",
                )

    def _read_label_texts(self, X: Examples) -> list[str]:
        """Returns the texts of all classes, none without any; those of more classes extend the
        targets.
        """
        head = _section(self.head)
        reads = not self._is_linear and registry.get("head", head["name"]).reads_label_texts
        if self._is_linear:
            reader = f"recipe {_LINEAR!r}"
            uses = bool(self._recipe.get("label_text_rows"))
            others = "set label_text_rows to true in the recipe"
        else:
            reader = f"head {head['name']!r}"
            uses = head.get("start") == registry.LABEL_TEXTS
            others = (
                "choose head 'label_text', a head with start 'label_texts', or recipe "
                "'xr_linear' with label_text_rows"
            )
        if self._label_texts is None:
            if reads or uses:
                raise ConfigError(
                    f"{reader} reads texts of the classes, and there are none",
                    where="label_texts",
                    fix="pass a dict of texts by class, or 'names'",
                )
            return []
        if not reads and not uses:
            raise ConfigError(
                f"{reader} does not use texts of the classes",
                where="label_texts",
                fix=f"leave it at None, or {others}",
            )
        if not is_texts(X):
            raise DataError(
                "label_texts need texts, and these are a matrix",
                where="X",
                fix="pass texts, or leave label_texts at None",
            )
        self._targets, texts = texts_of_classes(self._label_texts, self._targets, takes_more=reads)
        return texts

    def _rows(
        self, features: np.ndarray | scipy.sparse.csr_matrix, labels: list[list[int]]
    ) -> Rows:
        texts = self.text_features_
        if texts is None:
            kind = IMAGE if features.ndim == 4 else kind_of_features(features, "X")
        else:
            kind = texts.kind
        return Rows.of(kind, features, labels)

    def _rows_of(self, X: Examples, labels: list[list[int]] | None = None) -> Rows:
        if not hasattr(self, "_fitted"):
            check_is_fitted(self)
        X = listed_texts(X)
        if self.text_features_ is not None and np.shape(X)[:1] == (0,):
            X = []
        elif is_texts(X) != (self.text_features_ is not None):
            form = "a matrix" if self.text_features_ is None else "texts"
            raise DataError(
                "these examples do not have the form of those of fit", where="X", fix=f"pass {form}"
            )
        if self.text_features_ is not None:
            matrix = self.text_features_.transform(X)
        else:
            matrix = self._matrix(X, reset=False)
        if labels is not None:
            check_consistent_length(matrix, labels)
        return self._rows(matrix, [[]] * matrix.shape[0] if labels is None else labels)

    def _matrix(self, X: Examples, reset: bool) -> Any:
        input_kind = SPARSE.name
        if not self._is_linear:
            input_kind = registry.get("encoder", _section(self.encoder)["name"]).input_kind
        if input_kind == IMAGE.name:
            return checked_images(X, None if reset else self._fitted.image_shape)
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float32, reset=reset)
        if input_kind != SPARSE.name and not scipy.sparse.issparse(X):
            return X
        return scipy.sparse.csr_matrix(X)

    def _all_scores(self, X: Examples, probabilities: bool = False) -> np.ndarray:
        """Returns scores or probabilities of all classes, float32 (n, classes)."""
        rows = self._rows_of(X)
        ids, scores = self._fitted.search(rows, len(self.classes_), _BATCH, probabilities)
        assert (ids >= 0).all(), "a search finds as many classes as it is asked for"
        by_class = np.empty_like(scores)
        np.put_along_axis(by_class, ids.astype(np.int64), scores, axis=1)
        return by_class

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.string = True
        tags.classifier_tags.multi_label = True
        return tags


def _nested(name: str, value: object) -> dict[str, Any]:
    """Returns the arguments of a section, and of the dicts in it, by their names as parameters."""
    if not isinstance(value, Mapping):
        return {}
    params = {f"{name}__{key}": inner for key, inner in value.items()}
    for key, inner in value.items():
        params |= _nested(f"{name}__{key}", inner)
    return params


def _with(
    section: Mapping[str, Any], path: Sequence[str], value: object, parameter: str
) -> dict[str, Any]:
    """Returns a section with another value of an argument, which may be one of a dict in it."""
    argument, *rest = path
    if not rest:
        return {**section, argument: value}
    inner = section.get(argument)
    if not isinstance(inner, (Mapping, type(None))):
        raise ConfigError(
            f"{argument!r} is {inner!r}, which has no arguments",
            where=parameter,
            fix=f"set {parameter.removesuffix('__' + '__'.join(rest))} to a dict",
        )
    return {**section, argument: _with(inner or {}, rest, value, parameter)}


def _section(method: object) -> dict[str, Any]:
    """Returns a method's config section from its name or dict."""
    if isinstance(method, str):
        return {"name": method}
    if isinstance(method, dict) and isinstance(method.get("name"), str):
        return dict(method)
    raise ConfigError(
        f"{method!r} is neither a method's name nor a dict with 'name'",
        fix='pass one, such as "dense" or {"name": "mach", "num_buckets": 50}',
    )


def _class_of_model(recipe: str) -> type[FittedModel]:
    """Returns what holds the model; TensorFlow is imported for networks only."""
    if recipe == _LINEAR:
        from tfxc.estimator.fitted_linear import FittedLinear

        return FittedLinear
    from tfxc.estimator.fitted_network import FittedNetwork

    return FittedNetwork
