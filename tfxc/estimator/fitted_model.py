"""The model behind the estimator: it can be pickled, searched and saved as a run."""

import json

import numpy as np

from tfxc.core.config import parse_config
from tfxc.core.files import atomic_folder, write_array
from tfxc.data.manifest import Manifest, SplitInfo
from tfxc.inference.searcher import Searcher
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.model import build_model
from tfxc.runs.folder import KIND, NAMES, RunFolder
from tfxc.training.label_codes import decided_codes


class FittedModel:
    """A model and what is needed to make it again.

    Args:
        config: ``Config``.
        source: the training examples, a ``Source``.
        text_features: what they were made of, or None.

    Attributes:
        model: the ``XCModel``.
        summary: what the training returned.
    """

    def __init__(self, config, source, text_features=None):
        self.config = config
        self._sizes = {"num_features": source.num_features, "num_labels": source.num_labels}
        self._sizes["vocabulary_size"] = getattr(text_features, "vocabulary_size", None)
        self._kind = source.kind.name
        self._num_examples = source.num_examples
        self._label_counts, self._split, self.summary = None, None, None
        self._architecture = {}
        self._make(**decided_codes(config, source, **self._dimensions))

    def _make(self, **decided):
        """A new model; one whose weights are still to come does without what the data decided."""
        self.model = build_model(self.config, **self._dimensions, **self._architecture, **decided)
        found = getattr(self.model.encoder, "architecture", None)
        self._architecture = {} if found is None else {"architecture": found}
        self._searchers = {}

    @property
    def _dimensions(self):
        sizes = {"feature_kind": self._kind, "num_examples": self._num_examples}
        return {**self._sizes, **sizes}

    def count(self, labels):
        """Remembers the label statistics that a run folder holds; one list of ids an example."""
        counts = [len(row) for row in labels]
        ids = np.fromiter((label for row in labels for label in row), np.int64)
        self._label_counts = np.bincount(ids, minlength=self._sizes["num_labels"])
        self._split = {
            "examples": len(counts),
            "nonzeros": 0,
            "labels": len(ids),
            "min_labels": min(counts),
            "max_labels": max(counts),
            "without_labels": counts.count(0),
            "unseen_labels": 0,
            "shards": [],
        }

    def top_k(self, rows, k, batch_size):
        """Ids int32 and scores float32 (n, k) of the best labels of ``Rows``."""
        if k not in self._searchers:
            self._searchers[k] = Searcher(self.model, k)
        parts = [(np.zeros((0, k), np.int32), np.zeros((0, k), np.float32))]
        parts += [found[:2] for found in self._searchers[k].over_rows(iter([rows]), batch_size)]
        ids, scores = zip(*parts, strict=True)
        return np.concatenate(ids), np.concatenate(scores)

    def save(self, folder, names, text_features):
        """Writes a run folder, whole or not at all.

        Args:
            folder: its path; an older run there is replaced.
            names: label names by id.
            text_features: fitted ``TextFeatures``, or None.

        Raises:
            UserError: the folder holds something else than a run.
        """
        vocabulary = LabelVocabulary(names, where="classes_")
        config = self.config.model_copy(update={"run": str(folder)})
        with atomic_folder(folder, KIND, NAMES) as scratch:
            assets = scratch / "assets"
            assets.mkdir()
            (scratch / "config.json").write_text(config.to_json() + "\n", encoding="utf-8")
            vocabulary.save(assets / "labels.txt")
            write_array(assets / "label_counts.npy", self._label_counts)
            self._manifest(text_features).save(assets)
            if text_features is not None:
                text_features.save(assets / "text_features")
            run = RunFolder(scratch)
            run.save_weights(self.model)
            run.write_summary(self.summary)

    def _manifest(self, text_features):
        settings = None
        if text_features is not None:
            settings = {"name": text_features.name, **text_features.settings()}
        return Manifest(
            name=self.config.data.name,
            settings_fingerprint="",
            layout="blocks",
            feature_kind=self._kind,
            num_unseen_labels=0,
            text_features=settings,
            row_normalise=None,
            sources={},
            splits={"train": SplitInfo(**self._split)},
            **self._sizes,
        )

    def __getstate__(self):
        state = {name: value for name, value in vars(self).items() if name not in _REBUILT}
        weights = [np.asarray(variable.value) for variable in self.model.variables]
        return {**state, "config": json.loads(self.config.to_json()), "weights": weights}

    def __setstate__(self, state):
        weights, config = state.pop("weights"), state.pop("config")
        vars(self).update(state)
        self.config = parse_config(config)
        self._make()
        for variable, value in zip(self.model.variables, weights, strict=True):
            variable.assign(value)


_REBUILT = {"model", "config", "_searchers"}
