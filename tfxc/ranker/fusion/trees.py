"""Boosted trees that score the labels which several sources have found."""

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import DataError
from tfxc.ranker.fusion import fused_numpy
from tfxc.ranker.fusion.fused_numpy import Lists, flat_lists, ordered_lists, ranks_within

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier

_AT_ONCE = 1024  # examples
_FITTED = 10_000  # examples that trees are fitted on, at most
_UNLISTED = -1e30  # below all scores
# What trees are given of each model, and of all together, see ``_candidates``.
_COLUMNS_EACH = 3
_COLUMNS_TOGETHER = 6
# Chosen on the dev split of ICD-10-CM. Without the penalty the leaves of a few pairs grow without
# bounds, as almost all pairs are wrong.
_TREES = {
    "max_iter": 100,
    "max_leaf_nodes": 24,
    "learning_rate": 0.1,
    "l2_regularization": 20.0,
    "min_samples_leaf": 100,
    "early_stopping": False,
}
_KINDS = {
    "roots": "<i4",
    "features": "<i4",
    "thresholds": "<f8",
    "children": "<i4",
    "values": "<f8",
    "baseline": "<f8",
}


def fit_trees(columns: np.ndarray, truth: np.ndarray, seed: int, fix: str) -> dict[str, np.ndarray]:
    """Fits boosted trees.

    Args:
        columns: float32 (candidates, width), what is known of each.
        truth: bool (candidates,), which of them are true labels.
        seed: of scikit-learn.
        fix: what to do where they cannot be fitted.

    Returns:
        Arrays of ``fused_numpy.tree_scores``.

    Raises:
        DataError: there are too few candidates, or all or none are true.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    if truth.all() or not truth.any():
        raise DataError(
            "no candidate of the held-out examples is a true label, or all are, as where there is "
            "one label",
            fix=fix,
        )
    if len(truth) < 2 * _TREES["min_samples_leaf"]:
        raise DataError(
            f"{len(truth):,} candidates of the held-out examples are too few to fit trees", fix=fix
        )
    model = HistGradientBoostingClassifier(**_TREES, random_state=seed).fit(columns, truth)
    return _arrays_of(model)


def _arrays_of(model: "HistGradientBoostingClassifier") -> dict[str, np.ndarray]:
    """Returns the trees of a fitted model as arrays; scikit-learn has no public way to them."""
    trees = [tree.nodes for (tree,) in model._predictors]
    sizes = [len(nodes) for nodes in trees]
    roots = np.cumsum([0, *sizes[:-1]])
    nodes = np.concatenate(trees)
    children = np.stack([nodes["left"], nodes["right"]], axis=1).astype(np.int64)
    children += np.repeat(roots, sizes)[:, None]
    return {
        "roots": roots.astype(np.int32),
        "features": np.where(nodes["is_leaf"], -1, nodes["feature_idx"]).astype(np.int32),
        "thresholds": nodes["num_threshold"].astype(np.float64),
        "children": np.where(nodes["is_leaf"][:, None], 0, children).astype(np.int32),
        "values": nodes["value"].astype(np.float64),
        "baseline": np.ravel(model._baseline_prediction).astype(np.float64),
    }


@dataclasses.dataclass(frozen=True, eq=False)
class ListTrees:
    """Gives the labels that several models list one score each, by what all lists say of them.

    Attributes:
        arrays: of the trees, see ``fused_numpy.tree_scores``.
        label_counts: int (num_labels,), training examples of each label.

    Example:
        >>> trees = ListTrees.fit(lists, truth, label_counts)      # doctest: +SKIP
        >>> ids, scores = trees(other_lists, 5)                    # doctest: +SKIP
    """

    arrays: Mapping[str, np.ndarray]
    label_counts: np.ndarray

    @classmethod
    def fit(
        cls, lists: Sequence[Lists], truth: np.ndarray, label_counts: np.ndarray, seed: int = 0
    ) -> "ListTrees":
        """Fits trees to the lists of examples that no model was trained on.

        Args:
            lists: ids (n, k), best first, padded with -1, and scores of each model.
            truth: int (n, w), true labels, padded with -1.
            label_counts: see ``ListTrees``.
            seed: of the trees.

        Raises:
            DataError: trees can learn nothing of them.
        """
        chosen = np.arange(len(truth))
        if len(truth) > _FITTED:
            chosen = np.sort(np.random.default_rng(seed).choice(len(truth), _FITTED, replace=False))
        keys, columns = _candidates([(i[chosen], s[chosen]) for i, s in lists], label_counts)
        known = np.where(truth[chosen] < len(label_counts), truth[chosen], -1)
        true, _ = flat_lists(known, known, len(label_counts))
        fix = "choose another method, or a larger split"
        return cls(fit_trees(columns, np.isin(keys, true), seed, fix), label_counts)

    def __call__(self, lists: Sequence[Lists], k: int | None = None) -> Lists:
        """Returns the best labels of each example by the trees.

        Args:
            lists: see ``fit``; of the same models in the same order.
            k: labels to keep; None keeps all that any model lists.

        Returns:
            ids int32 and scores float32 (n, k), as ``combine`` does; a score is the probability
            that the trees give.
        """
        count = len(lists[0][0])
        width = k or sum(ids.shape[1] for ids, _ in lists)
        from tfxc.ranker.fusion.memory import kernels  # SciPy, for what there may be no need

        tree_scores = (fused_numpy if kernels is None else kernels).tree_scores
        answers = []
        for first in range(0, max(1, count), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            keys, columns = _candidates([(i[part], s[part]) for i, s in lists], self.label_counts)
            scores = 1 / (1 + np.exp(-tree_scores(columns, **self.arrays)))
            examples, labels = np.divmod(keys, len(self.label_counts))
            order = np.lexsort((labels, -scores, examples))
            size = min(_AT_ONCE, count - first)
            answers.append(
                ordered_lists(
                    examples, labels[order], scores[order].astype(np.float32), size, width
                )
            )
        ids, best = map(np.concatenate, zip(*answers, strict=True))
        return ids, best

    def __str__(self) -> str:
        return "trees"

    def content(self) -> dict[str, str]:
        """Returns what ``of`` makes the same trees of, as JSON takes it."""
        arrays = {name: (self.arrays[name], kind) for name, kind in _KINDS.items()}
        arrays["label_counts"] = (self.label_counts, "<i8")
        return {
            name: base64.b64encode(array.astype(kind).tobytes()).decode("ascii")
            for name, (array, kind) in arrays.items()
        }

    @classmethod
    def of(cls, content: Mapping[str, Any], models: int, num_labels: int) -> "ListTrees":
        """Makes trees of their ``content``.

        Args:
            content: see ``content``.
            models: whose lists they score.
            num_labels: of these.

        Raises:
            ValueError, TypeError, KeyError: they are none.
        """
        arrays = {
            name: np.frombuffer(base64.b64decode(content[name], validate=True), kind)
            for name, kind in (*_KINDS.items(), ("label_counts", "<i8"))
        }
        label_counts = arrays.pop("label_counts")
        arrays["children"] = arrays["children"].reshape(-1, 2)
        nodes = len(arrays["features"])
        parts = (arrays[name] for name in ("thresholds", "children", "values"))
        if any(len(part) != nodes for part in parts) or not len(arrays["roots"]):
            raise ValueError("its trees are incomplete")
        if len(label_counts) != num_labels:
            raise ValueError(f"its trees know {len(label_counts):,} labels, not {num_labels:,}")
        inner = np.flatnonzero(arrays["features"] >= 0)
        below = arrays["children"][inner]  # behind their parents, so that no way is endless
        if (
            len(arrays["baseline"]) != 1
            or (arrays["roots"] < 0).any()
            or max(arrays["roots"].max(), below.max(initial=0)) >= nodes
            or (below <= inner[:, None]).any()
            or arrays["features"].max() >= _COLUMNS_EACH * models + _COLUMNS_TOGETHER
        ):
            raise ValueError("its trees are damaged")
        return cls(arrays, label_counts)


def _candidates(lists: Sequence[Lists], label_counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the labels that any model lists, and what the trees are given of each.

    Of each model: the score, how far it is below the best, and 1 / rank; then the sum of these, the
    models that list it, and the label's training examples.

    Returns:
        int64 (candidates,), example times num_labels plus label, and float32 (candidates, columns).
    """
    num_labels = len(label_counts)
    flat = [flat_lists(ids, scores, num_labels) for ids, scores in lists]
    keys = np.unique(np.concatenate([own for own, _ in flat]))
    examples, labels = np.divmod(keys, num_labels)
    starts = np.flatnonzero(np.diff(examples, prepend=-1))
    sizes = np.diff(np.append(starts, len(keys)))
    together = np.zeros(len(keys))
    ranks = np.zeros(len(keys))
    listed = np.zeros(len(keys))
    columns: list[np.ndarray] = []
    for own, scores in flat:
        places = np.searchsorted(keys, own)
        values = np.full(len(keys), -np.inf)
        values[places] = scores
        best = np.repeat(np.maximum.reduceat(values, starts), sizes) if len(starts) else values
        there = np.isfinite(values)
        below = np.where(there, values - np.where(there, best, 0), _UNLISTED)
        inverse = np.where(there, 1 / (1 + ranks_within(starts, sizes, values)), 0)
        columns += [np.where(there, values, _UNLISTED), below, inverse]
        powers = np.exp(below)
        totals = np.bincount(examples, powers) if len(keys) else powers
        together += powers / np.where(totals > 0, totals, 1)[examples]
        ranks += inverse
        listed += there
    best = np.repeat(np.maximum.reduceat(together, starts), sizes) if len(starts) else together
    columns += [together, together - best, ranks, listed]
    columns.append(1 / (1 + ranks_within(starts, sizes, together)))
    columns.append(np.log1p(label_counts[labels]))
    return keys, np.stack([np.asarray(column, np.float32) for column in columns], axis=1)
