"""Identification: whose template is this, among those of a gallery, or nobody's?

The 1:N protocols of IJB-B and IJB-C, for embeddings of any kind; Whitelam et al. 2017, "IARPA Janus
Benchmark-B Face Dataset", and Maze et al. 2018 for IJB-C. A probe whose subject is in the gallery
is a mated one. Everything works in blocks of probes.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfxc.core.errors import DataError

#: Ranks that are reported, and false positive identification rates.
RANKS = (1, 5, 10)
FPIRS = (0.01, 0.1)
_BLOCK_SCORES = 1 << 22  # scores held at a time


class Gallery(NamedTuple):
    """Templates that probes are compared with.

    Attributes:
        vectors: float (n, dim).
        subjects: (n,), of any type that can be compared; a subject may have several templates, of
            which the best counts.
    """

    vectors: np.ndarray
    subjects: np.ndarray | Sequence[Any]


@dataclasses.dataclass(frozen=True)
class IdentificationResult:
    """How often probes are identified.

    Attributes:
        num_probes, num_mated: probes, and those of them whose subject is in a gallery.
        gallery_sizes: subjects of each gallery.
        ranks: ``{k: share of the mated probes whose subject is among the k best}``, over all
            galleries together (closed set).
        tpir: ``{fpir: (tpir, fpir reached)}``, each the mean over the galleries that have the
            subjects of some probes and lack others (open set); empty if there is none.
        tpir_by_pairs: ``{fpir: tpir}`` with the threshold of InsightFace's script; empty unless all
            probes are mated.
        subjects: the best subject of each probe, over all galleries together.
        scores: float64 (probes,), its score.
        mate_ranks: int64 (probes,), rank of the true subject from 1, 0 where it is in no gallery.
    """

    num_probes: int
    num_mated: int
    gallery_sizes: list[int]
    ranks: dict[int, float]
    tpir: dict[float, tuple[float, float]]
    tpir_by_pairs: dict[float, float]
    subjects: np.ndarray
    scores: np.ndarray
    mate_ranks: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Returns the metrics as a dict for JSON."""
        open_set = {f"{f:g}": {"tpir": t, "fpir": reached} for f, (t, reached) in self.tpir.items()}
        return {
            "num_probes": self.num_probes,
            "num_mated": self.num_mated,
            "gallery_sizes": self.gallery_sizes,
            "rank": {str(rank): share for rank, share in self.ranks.items()},
            "tpir_at_fpir": open_set,
            "tpir_by_pairs": {f"{fpir:g}": share for fpir, share in self.tpir_by_pairs.items()},
        }

    def table(self) -> str:
        """Returns the metrics in percent, one line each."""
        lines = [f"rank {rank:<9} {_percent(share)}" for rank, share in self.ranks.items()]
        for fpir, (tpir, reached) in self.tpir.items():
            lines.append(f"TPIR@FPIR={fpir:<4g} {_percent(tpir)}  at FPIR {reached:.2e}")
        for fpir, tpir in self.tpir_by_pairs.items():
            lines.append(f"TPIR@FPIR={fpir:<4g} {_percent(tpir)}  by pairs, closed set")
        return "\n".join(lines)


def identify(
    probes: np.ndarray,
    subjects: np.ndarray | Sequence[Any],
    galleries: Sequence[Gallery],
    ranks: Sequence[int] = RANKS,
    fpirs: Sequence[float] = FPIRS,
) -> IdentificationResult:
    """Searches each probe in galleries and measures how often the right subject is found.

    The score of two templates is the cosine of their vectors; that of a probe and a subject is the
    best over the subject's templates.

    * Closed set: the mated probes, searched in all galleries together. Another subject with the
      same score comes before the right one.
    * Open set, in each gallery by itself: the threshold is the lowest at which at most the share
      ``fpir`` of the probes without a mate has any score above it (false positive identification
      rate). TPIR is the share of the mated probes whose subject comes first, above the threshold.
    * By pairs, as InsightFace's script for IJB counts: of the scores of all probes with wrong
      subjects, searched in all galleries together, the threshold is the n-th highest, n = fpir ·
      probes rounded up; TPIR is the share of the probes with a score with their own subject above
      it.

    Args:
        probes: float (n, dim).
        subjects: (n,), the subjects of the probes.
        galleries: at least one; IJB-B and IJB-C have two without common subjects.
        ranks: see ``IdentificationResult.ranks``.
        fpirs: false positive identification rates, above 0 to 1.

    Returns:
        ``IdentificationResult``.

    Raises:
        DataError: no probe is mated, a set is empty, a vector is not finite, lengths differ, or a
            rate is out of range.

    Example:
        >>> gallery = Gallery(np.eye(3), ["a", "b", "c"])
        >>> probes = [[1, 0.1, 0], [0.1, 1, 0.2], [0.5, 0.6, 0.5]]
        >>> result = identify(np.array(probes), ["a", "b", "x"], [gallery], fpirs=[0.1])
        >>> result.ranks[1], result.tpir[0.1]
        (1.0, (1.0, 0.0))
    """
    sets = [
        _Set(vectors, subjects_of, f"gallery {number}")
        for number, (vectors, subjects_of) in enumerate(galleries, 1)
    ]
    if not len(fpirs) or not all(0 < fpir <= 1 for fpir in fpirs):
        raise DataError(
            "the false positive identification rates are not above 0 and at most 1: "
            f"{', '.join(map(str, fpirs)) or 'none'}",
            fix=f"leave them out for {', '.join(map(str, FPIRS))}",
        )
    probe_set = _Set(probes, subjects, "the probes")
    named = [probe_set.subjects, *(gallery.subjects for gallery in sets)]
    known, numbers = np.unique(np.concatenate(named), return_inverse=True)
    probed, *enrolled = np.split(numbers, np.cumsum([len(part) for part in named])[:-1])
    searches = [
        _search(probe_set.vectors, probed, gallery.vectors, subjects_of)
        for gallery, subjects_of in zip(sets, enrolled, strict=True)
    ]
    every = np.concatenate([gallery.vectors for gallery in sets])
    together = np.concatenate(enrolled)
    share = max(fpirs) if np.isin(probed, together).all() else 0.0  # of use if all are mated
    joined = _search(probe_set.vectors, probed, every, together, share)
    mated = joined.ranks > 0
    if not mated.any():
        raise DataError(
            "no probe has its subject in a gallery",
            fix="check that galleries and probes name subjects alike",
        )
    rates = [_open_set(search, fpirs) for search in searches if len(set(search.ranks > 0)) == 2]
    means = {}
    for fpir in fpirs if rates else ():
        tpir, reached = np.mean([shares[fpir] for shares in rates], axis=0)
        means[fpir] = float(tpir), float(reached)
    by_pairs = {}
    for fpir in fpirs if mated.all() else ():
        place = math.ceil(round(fpir * len(mated), 9)) - 1
        if 0 <= place < len(joined.wrong):
            by_pairs[fpir] = float(np.mean(joined.mate_scores > joined.wrong[place]))
    return IdentificationResult(
        num_probes=len(mated),
        num_mated=int(mated.sum()),
        gallery_sizes=[len(np.unique(subjects_of)) for subjects_of in enrolled],
        ranks={rank: float(np.mean(joined.ranks[mated] <= rank)) for rank in ranks},
        tpir=means,
        tpir_by_pairs=by_pairs,
        subjects=known[joined.best],
        scores=joined.best_scores,
        mate_ranks=joined.ranks,
    )


class _Set:
    """Vectors of length 1 and their subjects."""

    def __init__(
        self, vectors: np.ndarray | Sequence[Any], subjects: np.ndarray | Sequence[Any], name: str
    ) -> None:
        vectors = np.asarray(vectors, np.float64)
        self.subjects = np.asarray(subjects)
        if vectors.ndim != 2 or self.subjects.shape != (len(vectors),) or not len(vectors):
            raise DataError(
                f"the shapes of vectors and subjects in {name}, {vectors.shape} and "
                f"{self.subjects.shape}, do not fit",
                fix="give at least one vector, and a subject for each",
            )
        if not np.isfinite(vectors).all():
            raise DataError(f"an embedding in {name} contains NaN or infinity")
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        self.vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


class _Search(NamedTuple):
    """How each probe fares against one gallery.

    Attributes:
        best: number of the best subject.
        best_scores: its score.
        mate_scores: score of the true subject, -inf where it is not in the gallery.
        ranks: rank of the true subject from 1, 0 where it is not in the gallery.
        wrong: highest scores with wrong subjects, over all probes, falling.
    """

    best: np.ndarray
    best_scores: np.ndarray
    mate_scores: np.ndarray
    ranks: np.ndarray
    wrong: np.ndarray


def _search(
    probes: np.ndarray,
    subjects: np.ndarray,
    vectors: np.ndarray,
    enrolled: np.ndarray,
    share: float = 0.0,
) -> _Search:
    """Returns a ``_Search``; ``wrong`` has as many scores as ``share`` of the probes."""
    most = math.ceil(round(share * len(probes), 9))
    order = np.argsort(enrolled, kind="stable")
    columns, starts = np.unique(enrolled[order], return_index=True)
    vectors = vectors[order]
    wrong = np.zeros(0)
    parts = []
    for start, stop in _blocks(len(probes), len(vectors)):
        scores = np.maximum.reduceat(probes[start:stop] @ vectors.T, starts, axis=1)
        rows = np.arange(stop - start)
        true = subjects[start:stop]
        place = np.minimum(np.searchsorted(columns, true), len(columns) - 1)
        mated = columns[place] == true
        first = scores.argmax(axis=1)
        mates = np.where(mated, scores[rows, place], -np.inf)
        places = np.where(mated, (scores >= mates[:, None]).sum(axis=1), 0)
        parts.append((columns[first], scores[rows, first], mates, places))
        if most:
            scores[rows[mated], place[mated]] = -np.inf
            wrong = np.concatenate([wrong, scores[scores > -np.inf]])
            if len(wrong) > most:
                wrong = np.partition(wrong, len(wrong) - most)[len(wrong) - most :]
    best, best_scores, mate_scores, ranks = map(np.concatenate, zip(*parts, strict=True))
    return _Search(best, best_scores, mate_scores, ranks, np.sort(wrong)[::-1])


def _blocks(count: int, width: int) -> Iterator[tuple[int, int]]:
    size = max(1, _BLOCK_SCORES // width)
    for start in range(0, count, size):
        yield start, min(start + size, count)


def _open_set(search: _Search, fpirs: Sequence[float]) -> dict[float, tuple[float, float]]:
    """Returns {fpir: (tpir, fpir reached)} of one gallery, which has mated probes and others."""
    mated = search.ranks > 0
    strangers = np.sort(search.best_scores[~mated])[::-1]
    first = search.ranks == 1
    rates = {}
    for fpir in fpirs:
        allowed = math.floor(round(fpir * len(strangers), 9))
        threshold = strangers[allowed] if allowed < len(strangers) else -np.inf
        accepted = first[mated] & (search.mate_scores[mated] > threshold)
        rates[fpir] = float(accepted.mean()), float(np.mean(strangers > threshold))
    return rates


def _percent(value: float) -> str:
    return f"{100 * value:6.2f}"
