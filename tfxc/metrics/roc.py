"""The receiver operating characteristic: how many pairs are accepted at which false accept rate."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfxc.core.errors import DataError


@dataclasses.dataclass(frozen=True)
class Roc:
    """A curve from (0, 0) to (1, 1), as ``sklearn.metrics.roc_curve`` returns it.

    Attributes:
        far: float (points,), share of different pairs accepted, ascending.
        tar: float (points,), share of same pairs accepted, ascending.
    """

    far: np.ndarray
    tar: np.ndarray

    @classmethod
    def of(cls, scores: Sequence[float] | np.ndarray, same: Sequence[bool] | np.ndarray) -> "Roc":
        """Returns the curve of scores (n,), larger for more similar, and same flags (n,).

        Raises:
            DataError: there are no same or no different pairs, a score is not finite, or the
                lengths differ.
        """
        from sklearn.metrics import roc_curve

        scores, same = checked(scores, same)
        far, tar, _ = roc_curve(same, scores)
        return cls(far, tar)

    def area(self) -> float:
        """Returns the area under the curve: the chance that a same pair scores above a different
        one.
        """
        return float(np.trapezoid(self.tar, self.far))

    def equal_error_rate(self) -> float:
        """Returns the rate at which false accepts and false rejects are equally frequent.

        The curve is followed linearly between its points.
        """
        excess = self.far - (1 - self.tar)  # ascends from -1 to 1
        right = max(int(np.argmax(excess >= 0)), 1)
        below = excess[right - 1]
        above = excess[right]
        share = -below / (above - below)
        return float(self.far[right - 1] + share * (self.far[right] - self.far[right - 1]))

    def tar_at(self, far: float) -> tuple[float, float]:
        """Returns the true accept rate at a false accept rate, and the rate it really belongs to.

        It is the curve's point whose rate is nearest to ``far`` on either side, as in the scripts
        for IJB: nothing is interpolated, and a rate that few different pairs cannot express is
        met by its neighbour. Of points equally near the one with the larger true accept rate
        counts. Points on a straight line between their neighbours are none of the curve's.

        Returns:
            ``(tar, far reached)``.

        Example:
            >>> Roc.of([0.9, 0.8, 0.3, 0.1], [True, False, True, False]).tar_at(1e-6)
            (0.5, 0.0)
        """
        distance = np.abs(self.far - far)
        place = len(distance) - 1 - int(np.argmin(distance[::-1]))
        return float(self.tar[place]), float(self.far[place])


def checked(
    values: Sequence[float] | np.ndarray, same: Sequence[bool] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns scores or distances as float64 (n,), flags as bool (n,).

    Raises:
        DataError: the lengths differ, a value is not finite, or one of the two kinds is missing.
    """
    values = np.asarray(values, np.float64)
    same = np.asarray(same, bool)
    if values.ndim != 1 or values.shape != same.shape:
        raise DataError(
            f"the shapes of values and flags, {values.shape} and {same.shape}, are not one of each "
            "per pair"
        )
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise DataError(f"the value of pair {row + 1} is NaN or infinite")
    if same.all() or not same.any():
        kind = "different" if same.all() else "same"
        raise DataError(
            f"there are no {kind} pairs among {len(same):,}, and both kinds are needed",
            fix="check the flags",
        )
    return values, same
