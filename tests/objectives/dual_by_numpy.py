"""The dual methods by NumPy alone, as the paper writes them: float64, plain exponentials."""

import math
from typing import Any, NamedTuple

import numpy as np


class Method(NamedTuple):
    """One method.

    Attributes:
        name: of the objective.
        rate: gamma of its dual step (of SCENT, its logarithm).
        more: delta of ``umax``, rho of ``asgd_softplus``.
        learning_rate: of the weights.
    """

    name: str
    rate: float = 0.0
    more: float = 0.0
    learning_rate: float = 0.5

    def epoch_rate(self, epoch, epochs):
        """The dual step size in an epoch from 1."""
        cosine = 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        if self.name == "sox":
            return (1 - self.rate) * cosine + self.rate
        return self.rate if self.name == "scent" else self.rate * cosine

    def softened(self, parts, nu, count):
        """Sum of ``e / (1 + rho e)`` by ``count``; e = exp(s - nu), parts hold exp(s)."""
        parts = parts * np.exp(-nu)[:, None]
        return (parts / (1 + self.more * parts)).sum(axis=1) / count

    def step(self, nu, scores, rate, true=1):
        """A step of rows that all have negatives.

        Args:
            nu: (batch,), NaN where not visited.
            scores: list of vectors, of the negatives of each row.
            true: true columns of a row, a number or (batch,).

        Returns:
            nu of the loss and the new nu, both (batch,).
        """
        parts, negatives = padded(scores), np.array([len(row) for row in scores])
        mean = parts.sum(axis=1) / negatives
        if self.name == "asgd_softplus":
            first = np.log(self.softened(parts, np.zeros(len(nu)), negatives + true))
            used = np.where(np.isnan(nu), first, nu)
            slope = 1 - self.softened(parts, used, negatives + true)
            return used, np.where(np.isnan(nu), first, used - rate * slope)
        used = np.where(np.isnan(nu), np.log(mean), nu)
        if self.name in ("scent", "sox"):
            share = 1 / (1 + np.exp(-rate - used)) if self.name == "scent" else rate
            new = np.log((1 - share) * np.exp(used) + share * mean)
            return new, new
        new = used - rate * (1 - mean * np.exp(-used))
        if self.name == "umax":
            new = np.where(new < np.log(mean) - self.more, np.log(mean), new)
            return new, new
        return used, new

    def losses(self, scores, nu, true=1):
        """Loss of each row, nu given."""
        parts = padded(scores)
        if self.name == "bsgd":
            return np.log(parts.sum(axis=1))
        parts = parts * np.exp(-nu)[:, None]
        negatives = np.array([len(row) for row in scores])
        if self.name == "asgd_softplus":
            softened = np.log1p(self.more * parts) / self.more
            return softened.sum(axis=1) / (negatives + true)
        return parts.sum(axis=1) / negatives

    def slopes(self, scores, nu):
        """Slopes of the losses of rows with one true column, zeros behind each row's end."""
        parts = padded(scores)
        if self.name == "bsgd":
            return parts / parts.sum(axis=1, keepdims=True)
        parts = parts * np.exp(-nu)[:, None]
        negatives = np.array([len(row) for row in scores])[:, None]
        if self.name == "asgd_softplus":
            return parts / (1 + self.more * parts) / (negatives + 1)
        return parts / negatives


def padded(scores):
    """``exp`` of rows of different lengths, filled up with zeros."""
    width = max(map(len, scores))
    return np.stack([np.pad(np.exp(row), (0, width - len(row))) for row in scores])


class Toy(NamedTuple):
    """A training: features, labels, first weights, and the order of the examples by epoch."""

    features: Any
    labels: Any
    weights: Any
    order: Any

    batch = 16

    @classmethod
    def random(cls, seed=0, examples=64, dim=8, classes=40, epochs=4):
        """Clusters with noise."""
        generator = np.random.default_rng(seed)
        centres = generator.normal(size=(classes, dim))
        labels = generator.integers(0, classes, examples)
        features = (centres[labels] + generator.normal(size=(examples, dim))).astype(np.float32)
        weights = generator.normal(0, 0.3, (classes, dim)).astype(np.float32)
        order = np.stack([generator.permutation(examples) for _ in range(epochs)])
        return cls(features, labels, weights, order)

    def by_numpy(self, method, stop=None):
        """Weights and nu after ``stop`` epochs (all by default), and the loss of each step."""
        weights, nu = self.weights.astype(float), np.full(len(self.labels), np.nan)
        losses, epochs = [], len(self.order)
        for epoch, order in enumerate(self.order[:stop], start=1):
            rate = method.epoch_rate(epoch, epochs)
            learning_rate = 0.5 * method.learning_rate
            learning_rate *= 1 + math.cos(math.pi * (epoch - 1) / epochs)
            for rows in order.reshape(-1, self.batch):
                classes, true = np.unique(self.labels[rows], return_inverse=True)
                logits = self.features[rows].astype(float) @ weights[classes].T
                others = np.arange(len(classes)) != true[:, None]
                scores = [z[o] - z[t] for z, o, t in zip(logits, others, true, strict=True)]
                used = None
                if method.name != "bsgd":
                    used, nu[rows] = method.step(nu[rows], scores, rate)
                losses.append(method.losses(scores, used).mean())
                slopes = np.zeros(logits.shape)
                slopes[others] = method.slopes(scores, used).ravel() / len(rows)
                slopes[~others] = -slopes.sum(axis=1)
                weights[classes] -= learning_rate * slopes.T @ self.features[rows]
        return weights, nu, np.array(losses)
