"""Draws pairs of examples of the same class and of different ones."""

from collections.abc import Sequence

import numpy as np

from tfxc.core.errors import ConfigError, DataError


def make_pairs(
    labels: Sequence[int | str] | np.ndarray,
    num_pairs: int,
    seed: int = 0,
    folds: int = 10,
    disjoint: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws pairs for verification: half of the same class, half of different ones.

    Same pairs are spread over the classes as evenly as their sizes allow, so that large classes
    do not fill the set; different pairs are of two random classes each. No pair occurs twice. The
    pairs are laid out as in LFW: ``folds`` contiguous parts, each with its same pairs first, so
    that every fold is balanced.

    Args:
        labels: (m,) the class of each example, numbers or texts.
        num_pairs: pairs to draw; half of them, rounded up in each fold, are of the same class.
        seed: another seed, other pairs; the same seed, the same pairs.
        folds: number of folds.
        disjoint: whether a class occurs in one fold only, so that a threshold is never chosen on
            classes it is scored on.

    Returns:
        ``(pairs int64 (num_pairs, 2), same bool (num_pairs,))``.

    Raises:
        ConfigError: fewer pairs than two per fold.
        DataError: the examples do not have that many different pairs, or disjoint folds would have
            fewer than two classes.

    Example:
        >>> pairs, same = make_pairs([0, 0, 1, 1, 2, 2], 4, folds=2)
        >>> same.tolist()
        [True, False, True, False]
    """
    if folds < 1 or num_pairs < 2 * folds:
        raise ConfigError(
            f"at least two pairs per fold expected, found {num_pairs} for {folds} folds",
            where="num_pairs",
            fix="draw more pairs, or use fewer folds",
        )
    random = np.random.default_rng(seed)
    sizes = np.full(folds, num_pairs // folds)
    sizes[: num_pairs % folds] += 1
    wanted = np.stack([(sizes + 1) // 2, sizes // 2], axis=1)
    rows = _rows_by_class(labels)
    if disjoint:
        order = random.permutation(len(rows))
        if len(rows) < 2 * folds:
            raise DataError(
                f"at least two classes per fold expected, found {len(rows)} for {folds} folds",
                fix="use fewer folds, or let classes occur in several folds",
            )
        shares = [[rows[c] for c in part] for part in np.array_split(order, folds)]
        drawn = [_draw(part, count, random) for part, count in zip(shares, wanted, strict=True)]
    else:
        same, other = _draw(rows, wanted.sum(axis=0), random)
        ends = np.cumsum(wanted, axis=0)[:-1]
        parts = np.split(same, ends[:, 0]), np.split(other, ends[:, 1])
        drawn = list(zip(*parts, strict=True))
    pairs = np.concatenate([part for fold in drawn for part in fold])
    return pairs, np.repeat(np.tile([True, False], folds), wanted.ravel())


def _rows_by_class(labels):
    """Arrays of row numbers, one per class, in the order of the sorted classes."""
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise DataError(f"one class per example expected, found shape {labels.shape}")
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.argsort(inverse, kind="stable")
    return np.split(order, np.cumsum(counts)[:-1])


def _draw(rows, counts, random):
    num_same, num_other = counts
    return _draw_same(rows, num_same, random), _draw_other(rows, num_other, random)


def _draw_same(rows, wanted, random):
    sizes = np.array([len(part) for part in rows], np.int64)
    possible = sizes * (sizes - 1) // 2
    if possible.sum() < wanted:
        raise _too_few("the same class", wanted, possible.sum())
    chosen = []
    for place, count in enumerate(_even_shares(possible, wanted, random)):
        if count:
            numbers = random.choice(possible[place], count, replace=False)
            chosen.append(rows[place][_unordered_pairs(numbers)])
    return random.permutation(np.concatenate(chosen or [np.zeros((0, 2), np.int64)]))


def _even_shares(possible, wanted, random):
    """How many of ``possible`` to take of each, ``wanted`` in all and as even as can be."""
    low, high = 0, int(possible.max(initial=0))
    while low < high:  # the smallest level at which min(possible, level) sums up to enough
        level = (low + high) // 2
        low, high = (
            (low, level) if np.minimum(possible, level).sum() >= wanted else (level + 1, high)
        )
    shares = np.minimum(possible, low)
    spare = random.permutation(np.flatnonzero(shares == low))[: shares.sum() - wanted]
    shares[spare] -= 1
    return shares


def _unordered_pairs(numbers):
    """Pair number 0, 1, 2, 3 … of (1, 0), (2, 0), (2, 1), (3, 0) …"""
    large = ((1 + np.sqrt(1 + 8 * numbers.astype(np.float64))) / 2).astype(np.int64)
    large -= large * (large - 1) // 2 > numbers
    large += large * (large + 1) // 2 <= numbers
    return np.stack([large, numbers - large * (large - 1) // 2], axis=1)


def _draw_other(rows, wanted, random):
    sizes = np.array([len(part) for part in rows], np.int64)
    total = int(sizes.sum())
    possible = (total**2 - int((sizes**2).sum())) // 2
    if possible < wanted:
        raise _too_few("different classes", wanted, possible)
    flat, starts = np.concatenate(rows or [np.zeros(0, np.int64)]), np.cumsum(sizes) - sizes
    if possible < 4 * wanted:  # so few that drawing until all are there would take long
        left, right = np.triu_indices(total, 1)
        place = np.repeat(np.arange(len(rows)), sizes)
        keys = (left * total + right)[place[left] != place[right]]
        keys = random.choice(keys, wanted, replace=False)
    else:
        keys = np.zeros(0, np.int64)
        while len(keys) < wanted:
            one = random.integers(len(rows), size=2 * wanted)
            other = (one + random.integers(1, len(rows), size=2 * wanted)) % len(rows)
            ends = [starts[c] + random.integers(0, sizes[c]) for c in (one, other)]
            keys = np.concatenate([keys, np.minimum(*ends) * total + np.maximum(*ends)])
            _, first = np.unique(keys, return_index=True)
            keys = keys[np.sort(first)]
        keys = keys[:wanted]
    return flat[np.stack(np.divmod(keys, total), axis=1)]


def _too_few(kind, wanted, possible):
    return DataError(
        f"at most {possible:,} pairs of {kind} (all there are) expected, found {wanted:,}",
        fix="draw fewer pairs, or give more examples",
    )
