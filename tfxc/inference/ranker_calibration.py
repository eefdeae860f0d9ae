"""Probabilities of a linear ranker's scores, learned from examples it was not trained on."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from tfxc.core.errors import DataError
from tfxc.inference.searcher import Searcher
from tfxc.ranker.calibration import Calibration, pairs_of

if TYPE_CHECKING:
    from tfxc.inference.protocol import RunModel
    from tfxc.inference.searcher import Examples, Excluded

_LABELS = 10  # of an example that a calibration learns from
_MANY = 5_000  # scores from which on a curve of any form is learned


def learn_calibration(
    measured: "Iterable[tuple[RunModel, Examples]]",
    batch_size: int,
    method: str | None = None,
    excluded: "Excluded | None" = None,
) -> tuple[Calibration, str]:
    """Learns how often labels of a score are true, from the ten best labels of each example.

    Args:
        measured: what is searched, a linear ranker or an encoder in front of one, and examples
            with labels that it was not trained on; several are learned from together.
        batch_size: examples of a search.
        method: of ``Calibration.fit``; None is isotonic from 5,000 scores on, else logistic.
        excluded: labels that do not count, see ``Searcher``.

    Returns:
        ``Calibration``, and a line that says what it was learned from.

    Raises:
        DataError: there is no example, or all of the labels found are true, or none of them.
    """
    parts = []
    for model, examples in measured:
        k = min(_LABELS, model.num_labels)
        searcher = Searcher(model, k, excluded=excluded)
        parts += [
            pairs_of(result.ids, result.scores, result.labels)
            for result in searcher.over(examples, batch_size)
        ]
    if not parts:
        raise DataError("there is no example to learn a calibration from", fix="check the file")
    scores, hits = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    method = method or ("isotonic" if len(hits) >= _MANY else "logistic")
    calibration = Calibration.fit(scores, hits, method)
    return calibration, (
        f"{method} calibration learned from the {k} best labels of each example: "
        f"{len(hits):,} scores, {hits.mean():.1%} of them of true labels"
    )
