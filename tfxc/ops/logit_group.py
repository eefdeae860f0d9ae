"""The interface between heads and objectives."""

from typing import Any, NamedTuple


class LogitGroup(NamedTuple):
    """Logits of one set of columns and where the true ones are.

    Attributes:
        logits: float (batch, columns).
        positives: int64 (batch, max_positives), column numbers of the true classes, each at most
            once in a row, padded with -1.
        valid: bool (batch, columns), False where a column does not count; None means all count.
        cross_replica: ``CrossReplica`` if this replica has only some of the columns, and for the
            examples of all replicas; positives are then those among its columns. The objective
            returns the losses of the replica's own examples. None otherwise.
        log_weights: float32 (columns,), logarithm of the number of classes that a column stands
            for where the columns are a sample, 0 for true ones; the logits are without it. None:
            each stands for itself.
        counts: float (batch, max_positives), how much each entry of ``positives`` counts, e.g. how
            many labels of the example are under a cluster; anything at padding. None: 1. Only
            objectives with ``weighted`` look at it.
        penalties: float32 (batch,), loss of the examples' vectors themselves, e.g. of their
            lengths, which is added to the objective's; of this replica's own examples. None: 0.
    """

    logits: Any
    positives: Any
    valid: Any = None
    cross_replica: Any = None
    log_weights: Any = None
    counts: Any = None
    penalties: Any = None
