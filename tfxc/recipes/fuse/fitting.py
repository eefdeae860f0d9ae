"""The trees that fuse the sources, fitted on held-out training examples."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError
from tfxc.core.storage.locks import scratch_folder
from tfxc.data.reading.held_out import held_out_examples
from tfxc.ranker.fusion.fused_numpy import split_blocks
from tfxc.ranker.fusion.memory import ExampleMemory, MemorySettings, csr_rows
from tfxc.ranker.fusion.titles import title_examples
from tfxc.ranker.fusion.trees import fit_trees
from tfxc.recipes.memory.model import ranked_labels
from tfxc.recipes.xr_linear.model import LinearModel
from tfxc.runs.writer import RunWriter

_AT_ONCE = 256  # queries
_FIX = 'add up the sources with recipe.fusion "sum"'

#: Function of a folder, features, labels, and whether texts of labels are examples, too, that
#: trains a ranker in the folder and opens it.
TrainRanker = Callable[
    [RunWriter, scipy.sparse.csr_matrix, scipy.sparse.csr_matrix, bool], LinearModel
]


def fitted_trees(
    features: scipy.sparse.csr_matrix,
    labels: scipy.sparse.csr_matrix,
    texts: scipy.sparse.csr_matrix | None,
    settings: MemorySettings,
    train_ranker: TrainRanker,
    text_rows: Sequence[bool],
    chosen: np.ndarray,
    *,
    new_labels: float,
    groups: np.ndarray | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> tuple[dict[str, np.ndarray], bool, dict[bool, float]]:
    """Fits trees to what the sources say of examples that they do not know.

    Args:
        features: CSR (examples, D).
        labels: CSR (examples, num_labels) of ones.
        texts: features of the labels' texts, or None.
        settings: of the memory.
        train_ranker: see ``TrainRanker``.
        text_rows: choices of its last argument; the one with the higher P@1 on the held-out
            examples is taken, the first where they are alike.
        chosen: bool (examples,), those that are held out, see ``chosen_examples``.
        new_labels: share of the held-out examples' rare labels that the sources know by their
            texts alone. As many others only the ranker does not find, as labels that are added by
            examples later; half of these have no text.
        groups: int (examples,), equal for those that are held out together; None if all are apart.
        seed: of the choice.
        threads: of the searches.

    Returns:
        Arrays of ``fused_numpy.tree_scores``, the choice that is taken, and the P@1 of the ranker
        with each.

    Raises:
        DataError: trees can learn nothing of the held-out examples.
    """
    random = np.random.default_rng(seed)
    counts = np.bincount(labels.indices, minlength=labels.shape[1])
    candidates = np.unique(labels[chosen].indices)
    candidates = candidates[counts[candidates] <= settings.rare]
    count = round(new_labels * len(candidates))
    of_text, added = np.split(random.permutation(candidates)[: 2 * count], [count])
    if texts is None:  # nothing finds labels without examples
        of_text = of_text[:0]
    else:
        texts = _without_columns(texts.T, added[::2]).T.tocsr()
    known = _without_columns(labels, of_text)
    apart = chosen if groups is None else np.isin(groups, groups[chosen])  # titles of a group, too
    rest = ~apart & (np.diff(known.indptr) > 0)
    memory = ExampleMemory.of(settings, features[rest], known[rest], texts)
    ranker_labels = np.arange(labels.shape[1], dtype=np.int32)
    ranker_labels[added] = -1
    fusion = dataclasses.replace(memory, ranker_labels=ranker_labels).fusion(threads)
    queries = features[chosen]
    wanted = labels[chosen]
    ranked = {}
    precision = {}
    for choice in text_rows:
        with scratch_folder("fuse") as scratch:
            linear = train_ranker(RunWriter(scratch), features[rest], known[rest], choice)
            ranked[choice] = ranked_labels(linear, csr_rows(queries), settings)
        best = ranked[choice][0][:, 0]
        right = np.ravel(wanted[np.arange(len(best)), best]) * (best >= 0)
        precision[choice] = float(right.mean())
    winner = max(precision, key=precision.__getitem__)
    ids, scores = ranked[winner]
    columns = []
    truth = []
    for first in range(0, queries.shape[0], _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        blocks = split_blocks(csr_rows(queries[part]), settings.blocks)
        pairs = fusion.candidates(blocks, (ids[part], scores[part]))
        columns.append(fusion.pair_features(blocks, pairs))
        truth.append(np.ravel(wanted[part][pairs.queries, pairs.labels]) > 0)
    trees = fit_trees(np.concatenate(columns), np.concatenate(truth), seed, _FIX)
    return trees, winner, precision


def _without_columns(
    matrix: scipy.sparse.csr_matrix | scipy.sparse.csc_matrix, columns: np.ndarray
) -> scipy.sparse.csr_matrix:
    """Returns the matrix, with nothing in some of its columns."""
    factors = np.ones(matrix.shape[1], np.float32)
    factors[columns] = 0
    rest = scipy.sparse.csr_matrix(matrix @ scipy.sparse.diags_array(factors), dtype=np.float32)
    rest.eliminate_zeros()
    return rest


def chosen_examples(
    features: scipy.sparse.csr_matrix,
    labels: scipy.sparse.csr_matrix,
    texts: scipy.sparse.csr_matrix | None,
    settings: MemorySettings,
    count: int,
    groups: np.ndarray | None,
    seed: int,
) -> np.ndarray:
    """Chooses the examples to hold out: bool (examples,).

    The title of a label is none, see ``title_examples``: no query is that easy. Others with all
    words in the label's text stay, else the trees would learn that such a label is always wrong.

    Args:
        features, labels, texts, settings, groups, seed: see ``fitted_trees``.
        count: how many, about; a group goes as a whole.

    Raises:
        DataError: there is none.
    """
    usable = np.diff(labels.indptr) > 0
    if texts is not None:
        usable &= ~title_examples(features, labels, texts, settings.blocks[1])
    places = np.flatnonzero(usable)
    if len(places) < 2:
        raise DataError(
            "there are no examples that could be held out to train the fusion",
            fix=_FIX,
        )
    # The sources keep half of all examples; where most are titles, few of the others.
    share = min(1.0, count / len(places), 0.5 * labels.shape[0] / len(places))
    numbers = np.arange(len(places)) if groups is None else groups[places]
    chosen = np.zeros(labels.shape[0], bool)
    chosen[places[held_out_examples(numbers, share, seed)]] = True
    return chosen
