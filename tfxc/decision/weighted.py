"""As many labels for every example, chosen by a weighted value of each label's probability."""

from collections.abc import Callable

import numpy as np

from tfxc.decision.decision import NEVER, Decision
from tfxc.decision.held_out import RankedLists

_ROUNDS = 20


def weighted_rule(
    lists: RankedLists,
    count: int,
    amounts: np.ndarray,
    weights: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> Decision:
    """Finds weights that are those of the labels that they choose, by turns.

    Each round's sums are averaged with those of the rounds before, the later ones count more: else
    a label would be chosen everywhere in one round and nowhere in the next.

    Args:
        lists: their scores are probabilities.
        count: labels for every example.
        amounts: float64 (n, k), what a listed label adds to its sum where it is chosen.
        weights: (sum of each label, how often it is chosen), both float64 (num_labels,) -> the gain
            and the threshold of each label, see ``Decision``.
    """
    num_labels = len(lists.label_counts)
    width = lists.ids.shape[1]
    sums = np.zeros(num_labels)
    chosen_counts = np.zeros(num_labels)
    rule = Decision(NEVER, True, at_least=count, at_most=count)  # the likeliest ones
    for number in range(_ROUNDS):
        chosen = rule.predicted(lists.ids, lists.scores)
        ids = lists.ids[chosen]
        share = 2 / (number + 2)
        sums += share * (np.bincount(ids, amounts[chosen], num_labels) - sums)
        chosen_counts += share * (np.bincount(ids, minlength=num_labels) - chosen_counts)
        gains, of_labels = (part.astype(np.float32) for part in weights(sums, chosen_counts))
        rule = Decision(
            None, True, of_labels=of_labels, at_most=width, gains=gains, count=min(count, width)
        )
    return rule
