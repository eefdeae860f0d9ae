"""How much the labels of training have to be held back, so that others are found as well.

Or, with a penalty below zero, how much they have to be preferred: labels without a training example
are never wrong in training, and may rank first for examples they do not belong to.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.inference.searcher import Searcher
from tfxc.metrics.base import hits, ratio

if TYPE_CHECKING:
    from tfxc.inference.searcher import Examples, Excluded
    from tfxc.runs.loaded import LoadedRun

_AWAY = 4.0  # more than two cosines can differ by
# of the penalties that are tried, in either direction
_STEPS = 100
_MOST = 1.0


class Calibrated(NamedTuple):
    """The best penalty and what it leads to.

    Attributes:
        penalty: of the cosines of trained labels; below zero they are preferred.
        before, after: recall of the best label, of trained and of untrained labels, without a
            penalty and with it.
    """

    penalty: float
    before: tuple[float, float]
    after: tuple[float, float]

    def __str__(self) -> str:
        parts = (f"{100 * a:.2f} / {100 * b:.2f}" for a, b in (self.before, self.after))
        return (
            f"seen_penalty {self.penalty:g}: R@1 of trained / untrained labels {' -> '.join(parts)}"
        )


def calibrate_penalty(
    loaded: "LoadedRun", rows: "Examples", batch_size: int, excluded: "Excluded | None" = None
) -> Calibrated:
    """Finds the penalty with the best harmonic mean of the recall of trained and untrained labels.

    Each example is searched twice, for its best label of either kind; the penalty decides between
    the two.

    Args:
        loaded: ``LoadedRun`` with head ``label_text``.
        rows: examples, some of them of labels without a training example.
        batch_size: examples searched at a time.
        excluded: labels that do not count, see ``Searcher``.

    Raises:
        ConfigError: no label of one of the two kinds.

    Reference: Chao et al., "An Empirical Study and Analysis of Generalized Zero-Shot Learning",
    ECCV 2016, arXiv 1605.04253 ("calibrated stacking").
    """
    head = loaded.model.head
    of_run = head.penalty.numpy()
    try:
        head.penalty.assign(-_AWAY)
        trained = _best(loaded, rows, batch_size, excluded)
        head.penalty.assign(_AWAY)
        untrained = _best(loaded, rows, batch_size, excluded)
    finally:
        head.penalty.assign(of_run)
    if not trained.true.any() or not untrained.true.any():
        missing = "untrained" if trained.true.any() else "trained"
        raise ConfigError(
            f"there are no examples of {missing} labels; the penalty balances trained against "
            "untrained labels",
            where="--calibrate",
            fix="train with data.held_out_labels, or name a file with such examples",
        )
    scale = float(head.scale)
    margin = trained.scores / scale - _AWAY - (untrained.scores / scale)
    grid = [_MOST * step / _STEPS for step in range(-_STEPS, _STEPS + 1)]
    recalls = {penalty: _recalls(trained, untrained, margin > penalty) for penalty in grid}
    means = {
        penalty: 2 * first * second / (first + second) if first + second else 0.0
        for penalty, (first, second) in recalls.items()
    }
    best = max(means, key=lambda penalty: (means[penalty], -abs(penalty)))
    return Calibrated(best, recalls[0.0], recalls[best])


def check_run(loaded: "LoadedRun", option: str) -> None:
    """Refuses a run without such a penalty, before anything is measured.

    Args:
        loaded: ``LoadedRun``.
        option: for the message.

    Raises:
        ConfigError: its head is another.
    """
    head = loaded.config.head
    if head is None or head.name != "label_text":
        of_run = "no head" if head is None else f"head {head.name!r}"
        raise ConfigError(
            f"{option} is for head 'label_text', but the run has {of_run}",
            where=loaded.folder.path,
            fix="leave it out",
        )


class _Best(NamedTuple):
    """The best label of one kind for each example: scores, whether it is true, true labels."""

    scores: np.ndarray
    hits: np.ndarray
    true: np.ndarray


def _best(
    loaded: "LoadedRun", rows: "Examples", batch_size: int, excluded: "Excluded | None"
) -> _Best:
    searcher = Searcher(loaded.model, 1, excluded=excluded)
    is_trained = loaded.model.head.trained.numpy() > 0
    wanted = float(loaded.model.head.penalty.value) < 0  # the kind that comes first
    parts = []
    for result in searcher.over(rows, batch_size, "calibrating"):
        labels = result.labels
        known = (labels >= 0) & (labels < len(is_trained))
        of_kind = known & (is_trained[np.where(known, labels, 0)] == wanted)
        right = hits(result.ids, np.where(of_kind, labels, -1))[:, 0]
        parts.append((result.scores[:, 0], right, of_kind.sum(axis=1)))
    return _Best(*map(np.concatenate, zip(*parts, strict=True)))


def _recalls(trained: _Best, untrained: _Best, chosen: np.ndarray) -> tuple[float, float]:
    """Returns recall of the best label where the trained one is chosen, and of the others."""
    recalls = []
    for kind, mask in ((trained, chosen), (untrained, ~chosen)):
        some = kind.true > 0
        recalls.append(float(ratio(kind.hits & mask, kind.true)[some].mean()))
    return recalls[0], recalls[1]
