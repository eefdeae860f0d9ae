"""Helpers of the tests of objectives over the softmax probabilities of the true columns."""

import math

import numpy as np
import tensorflow as tf

from tfxc.ops.logit_group import LogitGroup


def probabilities(logits, valid):
    """Softmax over the columns that count, float64."""
    powers = np.where(valid, np.exp(logits), 0)
    return powers / powers.sum(axis=1, keepdims=True)


def mean_over_true(losses, target):
    """Mean over the true columns; 0 without one."""
    total = np.where(target > 0, losses, 0).sum(axis=1)
    return total / np.maximum(target.sum(axis=1), 1)


def repeated_columns():
    """A group whose second column stands for three, and the same with three columns."""
    logits = tf.constant([[0.5, 2.0, -1.0], [0.0, -1.0, 1.0]])
    positives = tf.constant([[0, -1], [2, 0]])
    weighted = LogitGroup(logits, positives, log_weights=tf.constant([0.0, math.log(3), 0.0]))
    return weighted, LogitGroup(tf.gather(logits, [0, 1, 2, 1, 1], axis=1), positives)
