"""Settings of a ranker: one value for all layers, or a list with a value for each."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from tfxc.core.declared import Count, Natural, NotNegative, Positive, checked
from tfxc.core.errors import ConfigError, inside
from tfxc.ops.linear.settings import Loss, SolverSettings
from tfxc.ranker.negatives import scheme_of
from tfxc.ranker.post_processors import post_processor

_COMMON_SETTINGS = ("bias", "mode", "ranker_levels", "relevance_mode", "relevance_norm", "seed")
_SOLVER_SETTINGS = {field.name for field in fields(SolverSettings)}


@checked
@dataclass(frozen=True)
class RankerSettings:
    """How a ranker is trained and searched; the defaults are those of XR-Linear.

    Each of ``cost_positive`` to ``post_processor`` may be a list with one value per trained layer.

    Args:
        cost_positive, cost_negative, loss, epsilon, max_passes, threshold, max_nonzeros: see
            ``tfxc.ops.linear.settings.SolverSettings``.
        negatives: ``"tfn"``, ``"man"``, ``"usn"`` or some of them joined by ``+``, see
            ``tfxc.ranker.negatives.scheme_of``; not used for a layer under one root, which
            learns from all examples.
        only_topk: nodes kept in the layer, in prediction and for ``man``.
        post_processor: name, see ``tfxc.ranker.post_processors``.
        bias: value of the constant feature; 0 for none.
        mode: ``"full-model"`` trains all levels of the tree, ``"ranker"`` the last
            ``ranker_levels`` of them, ``"matcher"`` those above.
        ranker_levels: number of levels.
        relevance_mode, relevance_norm: see ``tfxc.ranker.relevance.relevance_of``.
        seed: of the solver.

    Example:
        >>> RankerSettings(threshold=[0.1, 0.01]).of_layers([4, 60])["threshold"]
        [0.1, 0.01]

    Reference: Yu et al., "PECOS", JMLR 2022, arXiv 2010.05878.
    """

    cost_positive: Positive | Sequence[Positive] = 1.0
    cost_negative: Positive | Sequence[Positive] = 1.0
    loss: Loss | Sequence[Loss] = "squared-hinge"
    epsilon: Positive | Sequence[Positive] = 0.1
    max_passes: Count | Sequence[Count] = 100
    threshold: NotNegative | Sequence[NotNegative] = 0.1
    max_nonzeros: Natural | Sequence[Natural] = 0
    negatives: str | Sequence[str] = "tfn"
    only_topk: Count | Sequence[Count] = 10
    post_processor: str | Sequence[str] = "l3-hinge"
    bias: NotNegative = 1.0
    mode: Literal["full-model", "matcher", "ranker"] = "full-model"
    ranker_levels: Count = 1
    relevance_mode: Literal["disable", "induce", "ranker-only"] = "disable"
    relevance_norm: Literal["l1", "l2", "max", "none"] = "l1"
    seed: Natural = 0

    def of_layers(self, sizes: Sequence[int]) -> dict[str, list[Any]]:
        """Returns ``{name: list}`` of the settings that a layer has of its own.

        Args:
            sizes: number of nodes of each layer, for the message.

        Raises:
            ConfigError: a list of another length, or a value that is not allowed.
        """
        settings = {}
        for name, value in asdict(self).items():
            if name in _COMMON_SETTINGS:
                continue
            if not isinstance(value, (list, tuple)):
                value = [value] * len(sizes)
            if len(value) != len(sizes):
                raise ConfigError(
                    f"there are {len(value)} values for {len(sizes)} layers "
                    f"(of {', '.join(f'{size:,}' for size in sizes)} nodes)",
                    where=name,
                    fix="give one for each layer, or a single one for all",
                )
            settings[name] = list(value)
        for number, name in enumerate(settings["post_processor"]):
            post_processor(name, where=f"post_processor[{number}]")
            scheme_of(settings["negatives"][number], where=f"negatives[{number}]")
        return settings

    def solvers(self, sizes: Sequence[int]) -> list[SolverSettings]:
        """Returns ``SolverSettings`` of every layer.

        Raises:
            ConfigError: see ``of_layers``.
        """
        values = self.of_layers(sizes)
        return [
            SolverSettings(
                bias=self.bias,
                seed=self.seed * 64 + layer,
                **{name: values[name][layer] for name in values if name in _SOLVER_SETTINGS},
            )
            for layer in range(len(sizes))
        ]

    def check(self, sizes: Sequence[int], where: str) -> None:
        """Refuses what ``solvers`` refuses, by the name of the config key.

        Args:
            sizes: number of nodes of each layer.
            where: config key of the section that the settings are from.

        Raises:
            ConfigError: see ``of_layers``.
        """
        with inside(where):
            self.solvers(sizes)

    def levels(self, depth: int) -> range:
        """Returns the levels of the tree to train, a range.

        Raises:
            ConfigError: an unknown mode, or no level is left.
        """
        if self.mode == "full-model":
            return range(depth)
        if not 1 <= self.ranker_levels < depth:
            raise ConfigError(
                f"{self.ranker_levels} is out of range, as the tree has {depth} levels",
                where="ranker_levels",
                fix=f"give 1 to {depth - 1}",
            )
        first = depth - self.ranker_levels
        return range(first, depth) if self.mode == "ranker" else range(first)
