"""How a run is searched, where that is not as the run itself says."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge, Le

from tfxc.core.bounds import Count, Natural, Option
from tfxc.core.declared import checked


@checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class RankerOptions:
    """How a linear ranker searches.

    Attributes:
        beam: number of clusters that a linear ranker keeps in each layer; None means the run's.
        post_processor: function that turns the margins of a linear ranker into scores; None means
            the run's.
    """

    beam: Count | None = None
    post_processor: Annotated[str | None, Option("NAME")] = None


@checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchOptions(RankerOptions):
    """How labels are searched, and with which weights.

    Attributes:
        step: use the weights of the checkpoint of step N; None means those at the end of training.
        search: how to search labels: exact or approximate with heads dense, sampled and label_text;
            auto, brute, threshold (all exact) or approximate with head mach; None means exact, or
            auto with mach.
        search_buckets: number of best buckets per repetition that the approximate search of head
            mach considers; None means the run's.
        search_min_count: consider only labels that at least N of these buckets contain; None means
            the run's.
        repetitions: score labels only by these repetitions of a hashed head, e.g. 0-7, without
            those that are not trained; None means all, which must be trained.
        seen_penalty: use this head.seen_penalty of head label_text, from -2 to 2, instead of the
            run's, which stays as it is.
        streamed: whether, of several networks, one at a time is in memory, as is best for many
            examples, see ``RunModel.stream``.

    Raises:
        ConfigError: a value of another type, or outside of the bounds.

    Example:
        >>> SearchOptions(beam=20).beam
        20
    """

    step: Natural | None = None
    search: Annotated[str | None, Option("METHOD")] = None
    search_buckets: Annotated[Count | None, Option("M")] = None
    search_min_count: Count | None = None
    repetitions: Annotated[Sequence[Natural] | None, Option(spans=True)] = None
    seen_penalty: Annotated[float | None, Ge(-2), Le(2), Option("PENALTY")] = None
    streamed: Annotated[bool, Option(hidden=True)] = False
