"""How large a trained linear ranker is, layer by layer."""

import os
from pathlib import Path
from typing import Any

from tfxc.core.storage.files import folder_bytes
from tfxc.ranker.search import Ranker, load_layer

_HEADER = ("layer", "nodes", "non-zeros", "MB on disk", "beam", "post-processor")


def size_lines(folder: str | Path) -> list[str]:
    """Returns a table of a ranker's layers: nodes, weights, bytes, and how it is searched.

    Args:
        folder: run folder, or another that holds ``ranker/``.

    Returns:
        list of str, the last with the sums; empty if there is no finished ranker.

    Raises:
        DataError: its files are damaged.

    Example:
        >>> print("\\n".join(size_lines("runs/xr_linear_quickstart")))  # doctest: +SKIP
          layer             nodes       non-zeros  MB on disk    beam  post-processor
              0        8 clusters           2,816         0.0      10  l3-hinge
              1         60 labels          12,034         0.1       -  l3-hinge
        14,850 weights that are not 0, of 5,000 features
    """
    folder = Path(folder)
    if not os.path.lexists(folder / "ranker" / "param.json"):
        return []
    ranker = Ranker.load(folder)
    total = 0
    rows: list[tuple[Any, ...]] = [_HEADER]
    depth = len(ranker.sizes)
    for number, rule in enumerate(ranker.post_processors):
        path = folder / "ranker" / f"layer-{number}"
        last = number == depth - 1
        layer = load_layer(path)
        total += len(layer.values)
        nodes = f"{len(layer.children):,} {'labels' if last else 'clusters'}"
        size = folder_bytes(path) / 1e6
        beam = "-" if last else str(ranker.only_topk[number])  # the last keeps what is requested
        rows.append((number, nodes, f"{len(layer.values):,}", f"{size:,.1f}", beam, rule.name))
    lines = ["  {:>5} {:>17} {:>15} {:>11} {:>7}  {}".format(*row) for row in rows]
    return [*lines, f"{total:,} weights that are not 0, of {ranker.num_features:,} features"]
