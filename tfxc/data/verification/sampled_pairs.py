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
            f"{num_pairs} pairs are less than two for each of {folds} folds",
            where="num_pairs",
            fix="draw more pairs, or use fewer folds",
        )
    random = np.random.default_rng(seed)
    sizes = np.full(folds, num_pairs // folds)
    sizes[: num_pairs % folds] += 1
    wanted = np.stack([(sizes + 1) // 2, sizes // 2], axis=1)
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise DataError(f"the labels have the shape {labels.shape} instead of one per example")
    # Arrays of row numbers, one per class, in the order of the sorted classes.
    _, inverse, class_sizes = np.unique(labels, return_inverse=True, return_counts=True)
    rows = np.split(np.argsort(inverse, kind="stable"), np.cumsum(class_sizes)[:-1])
    if disjoint:
        order = random.permutation(len(rows))
        if len(rows) < 2 * folds:
            raise DataError(
                f"{len(rows)} classes are less than two for each of {folds} folds",
                fix="use fewer folds, or let classes occur in several folds",
            )
        shares = [[rows[c] for c in part] for part in np.array_split(order, folds)]
        drawn = [_draw(part, count, random) for part, count in zip(shares, wanted, strict=True)]
    else:
        same, different = _draw(rows, wanted.sum(axis=0), random)
        ends = np.cumsum(wanted, axis=0)[:-1]
        parts = (np.split(same, ends[:, 0]), np.split(different, ends[:, 1]))
        drawn = list(zip(*parts, strict=True))
    pairs = np.concatenate([part for fold in drawn for part in fold])
    return pairs, np.repeat(np.tile([True, False], folds), wanted.ravel())


def _draw(
    rows: Sequence[np.ndarray], counts: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pairs of rows of one class and of different ones, ``counts`` of each, both (n,
    2).
    """
    num_same, num_different = counts
    return _draw_same(rows, num_same, random), _draw_different(rows, num_different, random)


def _draw_same(rows: Sequence[np.ndarray], wanted: int, random: np.random.Generator) -> np.ndarray:
    sizes = np.array([len(part) for part in rows], np.int64)
    possible = sizes * (sizes - 1) // 2
    if possible.sum() < wanted:
        raise _too_few("the same class", wanted, possible.sum())
    chosen = []
    for place, count in enumerate(_even_shares(possible, wanted, random)):
        if count:
            numbers = random.choice(possible[place], count, replace=False)
            # Pair number 0, 1, 2, 3 … of (1, 0), (2, 0), (2, 1), (3, 0) …
            large = ((1 + np.sqrt(1 + 8 * numbers.astype(np.float64))) / 2).astype(np.int64)
            large -= large * (large - 1) // 2 > numbers
            large += large * (large + 1) // 2 <= numbers
            chosen.append(
                rows[place][np.stack([large, numbers - large * (large - 1) // 2], axis=1)]
            )
    return random.permutation(np.concatenate(chosen or [np.zeros((0, 2), np.int64)]))


def _even_shares(possible: np.ndarray, wanted: int, random: np.random.Generator) -> np.ndarray:
    """Returns how many of ``possible`` to take of each, ``wanted`` in all and as even as can be."""
    low = 0
    high = int(possible.max(initial=0))
    while low < high:  # the smallest level at which min(possible, level) sums up to enough
        level = (low + high) // 2
        if np.minimum(possible, level).sum() >= wanted:
            high = level
        else:
            low = level + 1
    shares = np.minimum(possible, low)
    spare = random.permutation(np.flatnonzero(shares == low))[: shares.sum() - wanted]
    shares[spare] -= 1
    return shares


def _draw_different(
    rows: Sequence[np.ndarray], wanted: int, random: np.random.Generator
) -> np.ndarray:
    sizes = np.array([len(part) for part in rows], np.int64)
    total = int(sizes.sum())
    possible = (total**2 - int((sizes**2).sum())) // 2
    if possible < wanted:
        raise _too_few("different classes", wanted, possible)
    flat = np.concatenate(rows or [np.zeros(0, np.int64)])
    starts = np.cumsum(sizes) - sizes
    if possible < 4 * wanted:  # so few that drawing until all are there would take long
        left, right = np.triu_indices(total, 1)
        place = np.repeat(np.arange(len(rows)), sizes)
        keys = (left * total + right)[place[left] != place[right]]
        keys = random.choice(keys, wanted, replace=False)
    else:
        keys = np.zeros(0, np.int64)
        while len(keys) < wanted:
            first_class = random.integers(len(rows), size=2 * wanted)
            distance = random.integers(1, len(rows), size=2 * wanted)
            second_class = (first_class + distance) % len(rows)
            ends = [
                starts[classes] + random.integers(0, sizes[classes])
                for classes in (first_class, second_class)
            ]
            keys = np.concatenate([keys, np.minimum(*ends) * total + np.maximum(*ends)])
            _, first_places = np.unique(keys, return_index=True)
            keys = keys[np.sort(first_places)]
        keys = keys[:wanted]
    return flat[np.stack(np.divmod(keys, total), axis=1)]


def _too_few(kind: str, wanted: int, possible: int) -> DataError:
    return DataError(
        f"{wanted:,} pairs of {kind} were requested, but there are only {possible:,}",
        fix="draw fewer pairs, or give more examples",
    )
