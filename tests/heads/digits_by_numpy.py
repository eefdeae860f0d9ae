"""What the tests of the heads over digits compare with."""

import numpy as np


def digits_of(labels, sizes):
    """Digits (H, n) of label ids, by repeated division from the last digit up."""
    rest, digits = np.asarray(labels), []
    for size in reversed(sizes):
        rest, digit = rest // size, rest % size
        digits.append(digit)
    return np.array(digits[::-1])


def log_probabilities(logits, link):
    """Log-softmax over the last axis or log-sigmoid, float64."""
    if link == "hinge":
        return -(np.maximum(0, 1 - logits) ** 3)
    if link == "sigmoid":
        return -np.logaddexp(0, -logits)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
