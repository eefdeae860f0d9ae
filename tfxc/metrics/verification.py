"""Verification: do two embeddings show the same thing?

Two protocols of face recognition, for embeddings of any kind:

* pairs (LFW, CFP-FP, AgeDB-30 …): a threshold on the distance chosen on nine folds and scored on
  the tenth; Huang et al. 2007, "Labeled Faces in the Wild";
* templates (IJB-B, IJB-C): sets of images and video frames compared as wholes; Whitelam et al.
  2017, "IARPA Janus Benchmark-B Face Dataset", and Maze et al. 2018 for IJB-C.

Pairs are row numbers (n, 2) into a matrix of embeddings. Everything works in blocks, so that the
15 million pairs of IJB-C need little memory apart from their scores.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.metrics.pair_scores import add_halves, pair_distances, pair_scores, pool_templates
from tfxc.metrics.roc import Roc, checked

__all__ = [
    "FARS",
    "PairsResult",
    "Roc",
    "ScoresResult",
    "add_halves",
    "pair_distances",
    "pair_scores",
    "pool_templates",
    "verify_pairs",
    "verify_scores",
]

#: False accept rates at which the true accept rate is reported.
FARS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
_Fold = tuple[np.ndarray, np.ndarray]  # distances, and which pairs are the same
_ACCURACY_THRESHOLDS = np.arange(400) / 100
_VAL_THRESHOLDS = np.arange(4000) / 1000


@dataclasses.dataclass(frozen=True)
class ScoresResult:
    """What a curve alone shows.

    Attributes:
        num_pairs, num_same: pairs, and same pairs among them.
        auc: area under the curve.
        eer: equal error rate.
        tar: ``{far: (tar, far reached)}``, see ``Roc.tar_at``.
        roc: the curve.
    """

    num_pairs: int
    num_same: int
    auc: float
    eer: float
    tar: dict[float, tuple[float, float]]
    roc: Roc

    def to_dict(self) -> dict[str, Any]:
        """Returns the metrics as a dict for JSON."""
        tar = {f"{far:.0e}": {"tar": t, "far": reached} for far, (t, reached) in self.tar.items()}
        values = {"num_pairs": self.num_pairs, "num_same": self.num_same}
        return {**values, "auc": self.auc, "eer": self.eer, "tar_at_far": tar}

    def table(self) -> str:
        """Returns the metrics in percent, one line each."""
        lines = [f"AUC       {_percent(self.auc)}", f"EER       {_percent(self.eer)}"]
        for far, (tar, reached) in self.tar.items():
            lines.append(f"TAR@{far:.0e} {_percent(tar)}  at FAR {reached:.2e}")
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class PairsResult(ScoresResult):
    """``ScoresResult`` and the protocol of folds.

    Attributes:
        accuracy, accuracy_std: mean and standard deviation over the folds.
        thresholds: float (folds,), the chosen thresholds on the squared distance.
        val, val_std: true accept rate at the threshold for ``far_target``, over the folds.
        val_far: the false accept rate reached there.
        far_target: the rate requested.
        correct: bool (n,), pairs classified correctly.
    """

    accuracy: float
    accuracy_std: float
    thresholds: np.ndarray
    val: float
    val_std: float
    val_far: float
    far_target: float
    correct: np.ndarray

    def to_dict(self) -> dict[str, float]:
        names = ("accuracy", "accuracy_std", "val", "val_std", "val_far", "far_target")
        values = {name: getattr(self, name) for name in names}
        return {**values, "thresholds": self.thresholds.tolist(), **super().to_dict()}

    def table(self) -> str:
        lines = [
            f"accuracy  {_percent(self.accuracy)} +- {100 * self.accuracy_std:.2f}  "
            f"({len(self.thresholds)} folds, threshold {self.thresholds.mean():.3f})",
            f"VAL@{self.far_target:.0e} {_percent(self.val)} +- {100 * self.val_std:.2f}  "
            f"at FAR {self.val_far:.2e}",
        ]
        return "\n".join([*lines, super().table()])


def _percent(value: float) -> str:
    return f"{100 * value:6.2f}"


def verify_scores(
    scores: Sequence[float] | np.ndarray,
    same: Sequence[bool] | np.ndarray,
    fars: Sequence[float] = FARS,
) -> "ScoresResult":
    """Returns the curve, area, equal error rate and true accept rates of scored pairs.

    Args:
        scores: float (n,), larger for more similar.
        same: bool (n,).
        fars: false accept rates to report the true accept rate at.

    Returns:
        ``ScoresResult``.

    Raises:
        DataError: as ``Roc.of``.

    Example:
        >>> verify_scores([0.9, 0.7, 0.2], [True, True, False]).auc
        1.0
    """
    return ScoresResult(**_metrics_of(Roc.of(scores, same), same, fars))


def _metrics_of(
    roc: Roc, same: np.ndarray | Sequence[bool], fars: Sequence[float]
) -> dict[str, Any]:
    return {
        "num_pairs": len(same),
        "num_same": int(np.count_nonzero(same)),
        "auc": roc.area(),
        "eer": roc.equal_error_rate(),
        "tar": {far: roc.tar_at(far) for far in fars},
        "roc": roc,
    }


def check_folds(folds: int, num_pairs: int) -> None:
    """Refuses fewer than two folds, or fewer pairs than folds, by a ``ConfigError``."""
    if not 2 <= folds <= num_pairs:
        raise ConfigError(
            f"{folds} folds are impossible for {num_pairs} pairs", fix=f"give 2 to {num_pairs}"
        )


def verify_pairs(
    distances: Sequence[float] | np.ndarray,
    same: Sequence[bool] | np.ndarray,
    folds: int = 10,
    far: float = 1e-3,
    fars: Sequence[float] = FARS,
) -> "PairsResult":
    """Follows the protocol of LFW: thresholds chosen on all folds but one, scored on that one.

    A pair counts as the same if its distance is below a threshold. Folds are contiguous
    and in the order given. The threshold for accuracy is the smallest of 0, 0.01 … 3.99 with the
    highest accuracy; that for VAL is the point where the false accept rate, linear between the
    thresholds 0, 0.001 … 3.999, first reaches ``far`` (0 where it never does). Folds without same
    pairs are left out of the mean VAL, folds without different ones out of the mean rate reached.

    Args:
        distances: float (n,) within [0, 4], see ``pair_distances``.
        same: bool (n,).
        folds: number of folds.
        far: false accept rate of VAL.
        fars: as in ``verify_scores``.

    Returns:
        ``PairsResult``.

    Raises:
        ConfigError: fewer than two folds, or fewer pairs than folds.
        DataError: as ``Roc.of``.

    Example:
        >>> distances, same = [0.1, 1.5] * 10, [True, False] * 10
        >>> verify_pairs(distances, same).accuracy
        1.0
    """
    distances, same = checked(distances, same)
    check_folds(folds, len(same))
    parts = list(zip(np.array_split(distances, folds), np.array_split(same, folds), strict=True))
    sizes = np.array([[np.count_nonzero(flags), np.count_nonzero(~flags)] for _, flags in parts])
    below = _accepted(parts, _ACCURACY_THRESHOLDS)
    right = below[:, 0] + sizes[:, 1, None] - below[:, 1]
    chosen = _ACCURACY_THRESHOLDS[np.argmax(right.sum(axis=0) - right, axis=1)]
    correct = [(d < t) == flags for (d, flags), t in zip(parts, chosen, strict=True)]
    accuracies = [part.mean() for part in correct]
    accepted = _at_far(parts, sizes, far)
    with np.errstate(invalid="ignore"):
        rates = accepted / sizes
    return PairsResult(
        accuracy=float(np.mean(accuracies)),
        accuracy_std=float(np.std(accuracies)),
        thresholds=chosen,
        val=float(np.nanmean(rates[:, 0])),
        val_std=float(np.nanstd(rates[:, 0])),
        val_far=float(np.nanmean(rates[:, 1])),
        far_target=far,
        correct=np.concatenate(correct),
        **_metrics_of(Roc.of(-distances, same), same, fars),
    )


def _at_far(parts: Sequence[_Fold], sizes: np.ndarray, far: float) -> np.ndarray:
    """Returns accepted same and different pairs (folds, 2) at each fold's threshold for ``far``."""
    wrong = _accepted(parts, _VAL_THRESHOLDS)[:, 1]
    others = np.maximum(sizes[:, 1].sum() - sizes[:, 1], 1)[:, None]
    rates = (wrong.sum(axis=0) - wrong) / others
    result = []
    for part, rate in zip(parts, rates, strict=True):
        right = int(np.argmax(rate >= far))
        threshold = _VAL_THRESHOLDS[0]  # also where the rate is never reached
        if right > 0:
            ends = slice(right - 1, right + 1)
            threshold = np.interp(far, rate[ends], _VAL_THRESHOLDS[ends])
        result.append(_accepted([part], np.array([threshold]))[0, :, 0])
    return np.array(result)


def _accepted(parts: Sequence[_Fold], thresholds: np.ndarray) -> np.ndarray:
    """Returns same and different pairs below each threshold, int (folds, 2, thresholds)."""
    counts = [
        [np.searchsorted(np.sort(d[kind]), thresholds) for kind in (flags, ~flags)]
        for d, flags in parts
    ]
    return np.array(counts)
