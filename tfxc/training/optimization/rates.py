"""Learning rates of single weights, as shares of the optimizer's."""

import fnmatch
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from tfxc.core.declared import NotNegative, ShareAboveZero, checked
from tfxc.core.errors import ConfigError
from tfxc.core.registry import nearest

if TYPE_CHECKING:
    import keras

    from tfxc.encoders.base import Encoder
    from tfxc.heads.base import Head
    from tfxc.objectives.base import Objective


_WHERE = "training.optimizer"


class TrainedWeight(NamedTuple):
    """What determines a learning rate.

    Attributes:
        path: ``"encoder/..."``, ``"head/..."``, as ``info`` and ``--dry-run`` print it.
        above: layers of the encoder above it, 0 in the highest one; None if there are none.
        size: how many numbers it holds.
    """

    path: str
    above: int | None
    size: int


class RateFactors:
    """How many times the optimizer's learning rate a weight gets.

    The product of all factors whose pattern fits, and of ``layer_decay`` to the power of the layers
    above. The decoupled weight decay is a share of the rate and so decreases with it.

    Args:
        rates: {pattern: factor from 0}. A pattern fits the weights whose path it is (``*`` stands
            for anything) or begins: ``"encoder"``, ``"head/kernel"``, ``"encoder/*_gamma_*"``.
        layer_decay: in (0, 1]: a layer of an encoder ``pretrained`` or ``transformer`` gets this
            share of the rate of the layer above it, the highest one the full rate, what is in front
            of the layers less than the lowest. Weights that layers share use the highest of these.

    Raises:
        ConfigError: a factor out of range.

    Example:
        >>> factors = RateFactors({"encoder": 0.1}, layer_decay=0.5)
        >>> factors.of([TrainedWeight("encoder/table", 2, 8), TrainedWeight("head/bias", None, 3)])
        [0.025, 1.0]

    Reference: Howard and Ruder 2018 (arXiv 1801.06146); Clark et al. 2020 (arXiv 2003.10555).
    """

    @checked
    def __init__(
        self,
        rates: Mapping[str, NotNegative] | None = None,
        layer_decay: ShareAboveZero = 1.0,
    ) -> None:
        self.rates = dict(rates or {})
        self.layer_decay = layer_decay

    @property
    def trivial(self) -> bool:
        """Whether all factors are 1."""
        return not self.rates and self.layer_decay == 1

    def of(self, weights: Sequence[TrainedWeight]) -> list[float]:
        """Returns the factors of a model's weights.

        Args:
            weights: list of ``TrainedWeight``.

        Raises:
            ConfigError: a pattern fits none of them, or there are no layers to use.
        """
        paths = [weight.path for weight in weights]
        for pattern in self.rates:
            if not any(_fits(pattern, path) for path in paths):
                names = sorted({part for path in paths for part in (path, path.split("/")[0])})
                raise ConfigError(
                    f"no weight matches {pattern!r}{nearest(pattern, names)}",
                    where=f"{_WHERE}.rates",
                    fix=f"use the names of the weights: {_shortened(sorted(set(paths)))}",
                )
        if self.layer_decay != 1 and all(weight.above is None for weight in weights):
            raise ConfigError(
                "the encoder has no trained layers",
                where=f"{_WHERE}.layer_decay",
                fix="remove it, set rates, or train an encoder 'pretrained' or 'transformer'",
            )
        factors = []
        for weight in weights:
            factor = self.layer_decay ** (weight.above or 0)
            for pattern, rate in self.rates.items():
                if _fits(pattern, weight.path):
                    factor *= rate
            factors.append(float(factor))
        return factors

    def lines(self, weights: Sequence[TrainedWeight], learning_rate: float) -> Iterator[str]:
        """Yields the groups of weights with their own rate as lines, lowest first; none if all are
        alike.

        Args:
            weights: list of ``TrainedWeight``.
            learning_rate: the optimizer's.

        Raises:
            ConfigError: see ``of``.
        """
        groups: dict[float, list[TrainedWeight]] = {}
        for weight, factor in zip(weights, self.of(weights), strict=True):
            groups.setdefault(factor, []).append(weight)
        if self.trivial:
            return
        yield "highest learning rates:"
        for factor in sorted(groups):
            size = sum(weight.size for weight in groups[factor])
            rate = f"{factor * learning_rate:.4g}"
            names = _shortened([weight.path for weight in groups[factor]], most=3)
            yield f"  {rate:>10} ({factor:.4g} times) {size:>13,} parameters: {names}"


def trained_weights(
    encoder: "Encoder", head: "Head", objective: "Objective | None" = None
) -> "list[TrainedWeight]":
    """Returns the ``TrainedWeight``s of built parts, in the order of the model's trainable weights.

    What a head shards over replicas comes last.
    """
    weights = []
    above = encoder.layers_above
    for kind, part in (("encoder", encoder), ("head", head), ("objective", objective)):
        if part is None:
            continue
        for weight in part.trainable_weights:
            name = weight_name(kind, part, weight)
            weights.append(TrainedWeight(name, above.get(id(weight)), math.prod(weight.shape)))
    for table in head.sharded_tables:
        weights.append(TrainedWeight(f"head/{table.name}", None, math.prod(table.shape)))
    return weights


def weight_name(kind: str, part: "keras.layers.Layer", weight: "keras.Variable") -> str:
    """Returns the name of a part's weight for users, e.g. ``"head/kernel"``.

    Args:
        kind: ``"encoder"``, ``"head"`` or ``"objective"``.
        part: the layer.
        weight: one of its variables.
    """
    path = weight.path.split("/")
    inside = path[path.index(part.name) + 1 :] if part.name in path else path[-1:]
    return "/".join([kind, *inside])


def _fits(pattern: str, path: str) -> bool:
    return fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path, f"{pattern}/*")


def _shortened(names: list[str], most: int = 12) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
