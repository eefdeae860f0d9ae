"""How a run is searched, where that is not as the run itself says."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge, Le

from tfxc.core.bounds import Count, Natural, Option


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankerOptions:
    """How a linear ranker searches.

    Attributes:
        beam: clusters kept in each layer of a linear ranker; None means the run's.
        post_processor: function from margins to scores of a linear ranker; None means the run's.
    """

    beam: Count | None = None
    post_processor: Annotated[str | None, Option("NAME")] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchOptions(RankerOptions):
    """How labels are searched, and with which weights.

    Attributes:
        step: weights of the checkpoint of step N; None means those of the end of the training.
        search: how labels are searched: heads dense, sampled and label_text exact or approximate,
            head mach auto, brute, threshold (all exact) or approximate; None means exact, auto.
        search_buckets: best buckets per repetition that the approximate search of head mach
            considers; None means the run's.
        search_min_count: number of these buckets that must contain a label for it to be considered;
            None means the run's.
        repetitions: repetitions of a hashed head that labels are scored by, e.g. 0-7, but for those
            that are not trained; None means all, which must be trained.
        seen_penalty: head.seen_penalty of head label_text, from -2 to 2, instead of the run's; the
            run stays as it is.
        streamed: whether, of several networks, one at a time is in memory, as is best for many
            examples, see ``RunModel.stream``.

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
