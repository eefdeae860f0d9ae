"""Slices of the label set by training frequency: head, torso and tail."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.labels.propensity import checked_counts

# Chalkidis et al., "Large-Scale Multi-Label Text Classification on EU Legislation", ACL 2019. The
# paper writes "more than 50" documents for its frequent labels, but the sizes it publishes (746
# frequent, 3,362 few-shot) are those of 50 or more; the published sizes are followed.
EURLEX57K_BOUNDS = (0, 49)
_DEFAULT_BOUNDS = {"thresholds": EURLEX57K_BOUNDS, "shares": (1 / 3, 2 / 3)}


@dataclasses.dataclass(frozen=True)
class LabelSlices:
    """A partition of the labels, from the most to the least frequent.

    Attributes:
        slice_of_label: int8 (num_labels,), slice number of each label.
        names: name of each slice.
        with_unknown: whether labels outside of the label space (ids of ``num_labels`` or more)
            belong to the last slice; else to none.
    """

    slice_of_label: np.ndarray
    names: tuple[str, ...]
    with_unknown: bool = True

    def lookup(self, ids: np.ndarray) -> np.ndarray:
        """Returns the slice number of each id, −1 for −1; the shape of ``ids``."""
        ids = np.asarray(ids)
        seen = (ids >= 0) & (ids < len(self.slice_of_label))
        slices = self.slice_of_label[np.where(seen, ids, 0)]
        unknown = len(self.names) - 1 if self.with_unknown else -1
        return np.where(seen, slices, np.where(ids < 0, -1, unknown))

    def sizes(self) -> dict[str, int]:
        """Returns ``{name: number of labels}``."""
        sizes = np.bincount(self.slice_of_label, minlength=len(self.names))
        return dict(zip(self.names, sizes.tolist(), strict=True))


def frequency_slices(
    label_counts: Sequence[int] | np.ndarray,
    rule: str = "thresholds",
    bounds: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
) -> "LabelSlices":
    """Divides the labels by their number of training examples.

    Rules:

    * ``thresholds``: by ascending bounds on the count, each the largest of its slice. The default
      (0, 49) is EURLEX57K's: ``frequent`` from 50 up, ``few-shot`` 1 to 49, ``zero-shot`` 0.
    * ``shares``: labels by descending count (ties: lower id first); the head are the first labels
      that hold the first third of all label occurrences, the torso those of the second third, the
      tail all others. ``bounds`` are the shares where a slice ends, default (1/3, 2/3).

    Args:
        label_counts: (num_labels,) number of training examples of each label.
        rule: ``thresholds`` or ``shares``.
        bounds: ascending numbers; one slice more than bounds.
        names: one name per slice, from the most to the least frequent.

    Returns:
        ``LabelSlices``.

    Raises:
        ConfigError: an unknown rule, bounds that do not ascend, or a wrong number of names.

    Example:
        >>> slices = frequency_slices([120, 3, 0, 50])
        >>> slices.names, slices.slice_of_label.tolist()
        (('frequent', 'few-shot', 'zero-shot'), [0, 1, 2, 0])
    """
    counts = checked_counts(label_counts)
    if rule not in _DEFAULT_BOUNDS:
        raise ConfigError(f"{rule!r} is unknown", where="rule", fix="give thresholds or shares")
    bounds = tuple(_DEFAULT_BOUNDS[rule] if bounds is None else bounds)
    if not bounds or list(bounds) != sorted(set(bounds)):
        raise ConfigError(f"{bounds} are not ascending numbers", where="bounds")
    names = tuple(names or _default_names(rule, bounds))
    if len(names) != len(bounds) + 1 or len(set(names)) < len(names):
        raise ConfigError(
            f"{', '.join(names)} are not {len(bounds) + 1} different names, one for each slice",
            where="names",
        )
    if rule == "thresholds":
        slices = len(bounds) - np.searchsorted(bounds, counts, side="left")
    else:
        order = np.argsort(-counts.astype(np.int64), kind="stable")
        occurrences = counts[order].astype(np.int64)
        # A label belongs where its first occurrence falls: one that crosses a bound is still in.
        before = np.cumsum(occurrences) - occurrences
        ends = np.multiply(bounds, occurrences.sum())
        slices = np.empty(len(counts), np.int64)
        slices[order] = np.searchsorted(ends, before, side="right")
        slices[counts == 0] = len(bounds)
    return LabelSlices(slices.astype(np.int8), names)


def trained_slices(label_counts: Sequence[int] | np.ndarray) -> "LabelSlices":
    """Returns labels with training examples, and those without; labels that cannot be found are
    neither.

    Args:
        label_counts: (num_labels,) number of training examples of each label.

    Example:
        >>> trained_slices([3, 0]).names, trained_slices([3, 0]).slice_of_label.tolist()
        (('trained', 'untrained'), [0, 1])
    """
    counts = checked_counts(label_counts)
    return LabelSlices((counts == 0).astype(np.int8), ("trained", "untrained"), False)


def _default_names(rule: str, bounds: tuple[float, ...]) -> Sequence[str]:
    if rule == "shares" and len(bounds) == 2:
        return "head", "torso", "tail"
    if rule == "shares":
        return [f"part {number + 1}" for number in range(len(bounds) + 1)]
    if bounds == EURLEX57K_BOUNDS:
        return "frequent", "few-shot", "zero-shot"
    middle = [f"{low + 1}-{high}" for low, high in itertools.pairwise(bounds)]
    return [f">{bounds[-1]}", *reversed(middle), f"0-{bounds[0]}" if bounds[0] else "0"]
