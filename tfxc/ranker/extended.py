"""A layer with new nodes: only the blocks that got one are trained again."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfxc.ops.csr import bounds_of
from tfxc.ops.search.beam_search.chunked_layer import ChunkedLayer
from tfxc.ranker.layer import NO_LIMITS, train_layer
from tfxc.ranker.problem import LayerProblem
from tfxc.ranker.search import load_layer

if TYPE_CHECKING:
    from tfxc.ops.linear.settings import SolverSettings
    from tfxc.ranker.layer import Limits


def extend_layer(
    old: ChunkedLayer,
    affected: Sequence[int] | np.ndarray,
    problem: LayerProblem,
    folder: str | Path,
    settings: "SolverSettings | None" = None,
    *,
    limits: "Limits" = NO_LIMITS,
) -> ChunkedLayer:
    """Returns a layer whose affected blocks are trained again; the weights of all others are the
    old ones.

    Args:
        old: ``ChunkedLayer`` of the first nodes.
        affected: int, ascending: parents whose blocks are trained.
        problem: ``tfxc.ranker.problem.LayerProblem`` of all nodes, the new ones last.
        folder: where the training of these blocks writes.
        settings, limits: see ``tfxc.ranker.layer.train_layer``.

    Returns:
        ``ChunkedLayer``.

    Raises:
        DataError, ConfigError, UserError: see ``train_layer``.
    """
    parents = np.asarray(problem.parents)
    affected = np.asarray(affected)
    nodes = np.flatnonzero(np.isin(parents, affected))
    examples = problem.examples
    relevance = problem.relevance
    part = LayerProblem(
        problem.features,
        problem.targets.tocsc()[:, nodes],
        np.searchsorted(affected, parents[nodes]),
        None if examples is None else examples.tocsc()[:, affected],
        None if relevance is None else relevance.tocsc()[:, nodes],
    )
    train_layer(part, folder, settings, limits=limits, title="training affected blocks")
    new = load_layer(Path(folder))
    trained = np.zeros(len(parents), bool)
    trained[: len(old.trained)] = old.trained
    trained[nodes] = new.trained
    places = {parent: place for place, parent in enumerate(affected.tolist())}
    count = len(old.child_splits) - 1
    blocks = [_block(new, places[p]) if p in places else _block(old, p) for p in range(count)]
    rows, counts, columns, values = (np.concatenate(part) for part in zip(*blocks, strict=True))
    return ChunkedLayer(
        children=np.argsort(parents, kind="stable").astype(np.int32),
        child_splits=bounds_of(np.bincount(parents, minlength=count)),
        rows=rows,
        row_splits=bounds_of([len(block[0]) for block in blocks]),
        entry_splits=bounds_of(counts),
        columns=columns,
        values=values,
        trained=trained,
    )


def _block(
    layer: ChunkedLayer, parent: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns rows of a parent's block, entries of each, their columns and values."""
    first, last = layer.row_splits[parent : parent + 2]
    splits = layer.entry_splits[first : last + 1]
    entries = slice(int(splits[0]), int(splits[-1]))
    return layer.rows[first:last], np.diff(splits), layer.columns[entries], layer.values[entries]
