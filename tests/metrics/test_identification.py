"""Identification against loops over probes and thresholds, written from the definitions."""

import math

import numpy as np
import pytest

from tfxc.core.errors import DataError
from tfxc.metrics.identification import Gallery, identify

RANDOM = np.random.default_rng(0)


def templates(subjects, noise, seed):
    """Vectors around a direction of each subject, of all lengths."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(60, 8))
    vectors = centres[subjects] + random.normal(0, noise, (len(subjects), 8))
    return vectors * random.uniform(0.1, 9, (len(subjects), 1))


def galleries():
    """Two without common subjects; subjects of the first have several templates."""
    first, second = np.repeat(np.arange(0, 20), 2)[:-5], np.arange(20, 40)
    order = RANDOM.permutation(len(first))
    return [
        Gallery(templates(first, 0.9, 1)[order], first[order]),
        Gallery(templates(second, 0.9, 2), second),
    ]


def score(probe, gallery, subject):
    """The best cosine with a template of the subject."""
    own = [v for v, s in zip(*gallery, strict=True) if s == subject]
    return max(v @ probe / np.linalg.norm(v) / np.linalg.norm(probe) for v in own)


def scores_of(probes, gallery):
    """[{subject: score}] of each probe."""
    known = sorted(set(gallery.subjects))
    return [{subject: score(probe, gallery, subject) for subject in known} for probe in probes]


def open_set_by_loops(probes, subjects, gallery, fpir):
    """The lowest of all thresholds that keeps the rate, tried one by one."""
    found = scores_of(probes, gallery)
    known = set(gallery.subjects)
    strangers = [
        max(s.values()) for s, own in zip(found, subjects, strict=True) if own not in known
    ]
    mated = [(s, own) for s, own in zip(found, subjects, strict=True) if own in known]
    for threshold in sorted([-np.inf, *strangers]):
        reached = np.mean([score > threshold for score in strangers])
        if reached <= fpir:
            break
    hits = [max(s, key=s.get) == own and s[own] > threshold for s, own in mated]
    return np.mean(hits), reached


@pytest.mark.parametrize("block", [50, 1 << 22])
def test_against_loops(monkeypatch, block):
    monkeypatch.setattr("tfxc.metrics.identification._BLOCK_SCORES", block)
    subjects = RANDOM.integers(0, 50, 90)  # 40 to 49 are in no gallery
    probes, both = templates(subjects, 0.9, 3), galleries()
    result = identify(probes, subjects, both, ranks=(1, 2, 7), fpirs=(0.02, 0.1, 0.5, 1.0))
    joined = Gallery(*(np.concatenate(parts) for parts in zip(*both, strict=True)))
    found = scores_of(probes, joined)
    best = [max(s, key=s.get) for s in found]
    np.testing.assert_array_equal(result.subjects, best)
    np.testing.assert_allclose(result.scores, [max(s.values()) for s in found])
    ranks = [
        sorted(s.values(), reverse=True).index(s[own]) + 1 if own in s else 0
        for s, own in zip(found, subjects, strict=True)
    ]
    np.testing.assert_array_equal(result.mate_ranks, ranks)
    mated = [rank for rank in ranks if rank]
    assert (result.num_probes, result.num_mated) == (90, len(mated))
    assert result.gallery_sizes == [18, 20]
    assert 0 < result.ranks[1] < result.ranks[7] < 1
    for k, share in result.ranks.items():
        assert share == pytest.approx(np.mean([rank <= k for rank in mated]))
    for fpir, (tpir, reached) in result.tpir.items():
        by_gallery = [open_set_by_loops(probes, subjects, one, fpir) for one in both]
        expected = np.mean(by_gallery, axis=0)
        assert (tpir, reached) == pytest.approx(tuple(expected))
        assert reached <= fpir
    assert result.tpir[0.02][0] < result.tpir[0.5][0]
    assert not result.tpir_by_pairs


@pytest.mark.parametrize("block", [50, 1 << 22])
def test_by_pairs_against_loops(monkeypatch, block):
    """All probes mated, as in the mixed probes of IJB with both galleries."""
    monkeypatch.setattr("tfxc.metrics.identification._BLOCK_SCORES", block)
    both = galleries()
    joined = Gallery(*(np.concatenate(parts) for parts in zip(*both, strict=True)))
    subjects = RANDOM.choice(joined.subjects, 70)
    probes = templates(subjects, 0.9, 4)
    found = scores_of(probes, joined)
    wrong = [
        s for row, own in zip(found, subjects, strict=True) for k, s in row.items() if k != own
    ]
    result = identify(probes, subjects, both)
    for fpir, share in result.tpir_by_pairs.items():
        threshold = sorted(wrong, reverse=True)[math.ceil(fpir * 70) - 1]
        own = [row[subject] > threshold for row, subject in zip(found, subjects, strict=True)]
        assert share == pytest.approx(np.mean(own))
    assert set(result.tpir_by_pairs) == {0.01, 0.1}


def test_closed_set_of_one_gallery_has_no_open_set():
    gallery = Gallery(np.eye(4), list("abcd"))
    result = identify(np.eye(4)[:3] + 0.1, ["a", "b", "d"], [gallery])
    assert (result.ranks, result.tpir) == ({1: 2 / 3, 5: 1.0, 10: 1.0}, {})
    assert result.subjects.tolist() == ["a", "b", "c"]


def test_ties_count_against_the_probe():
    """A network that maps everything to one vector identifies nobody."""
    same = np.ones((5, 3))
    result = identify(same, [0, 1, 2, 3, 9], [Gallery(same[:4], [0, 1, 2, 3])])
    assert (result.ranks[1], result.tpir[0.01]) == (0.0, (0.0, 0.0))
    assert result.mate_ranks.tolist() == [4, 4, 4, 4, 0]


def test_refusals():
    gallery = Gallery(np.eye(2), [1, 2])
    for fpirs, shown in (((), "none"), ((0.0, 0.1), "0.0, 0.1"), ((1.5,), "1.5")):
        with pytest.raises(DataError, match=f"at most 1: {shown}"):
            identify(np.eye(2), [1, 2], [gallery], fpirs=fpirs)
    with pytest.raises(DataError, match="no probe has its subject in a gallery"):
        identify(np.eye(2), [3, 4], [gallery])
    with pytest.raises(DataError, match=r"in gallery 2, \(2, 2\) and \(1,\), do not fit"):
        identify(np.eye(2), [1, 2], [gallery, Gallery(np.eye(2), [1])])
    with pytest.raises(DataError, match="an embedding in the probes contains NaN"):
        identify(np.eye(2) * np.nan, [1, 2], [gallery])


def test_table_and_record():
    subjects = np.arange(0, 50)
    result = identify(templates(subjects, 0.5, 5), subjects, galleries())
    lines = result.table().splitlines()
    assert [line.split("  ")[0].strip() for line in lines][:3] == ["rank 1", "rank 5", "rank 10"]
    assert lines[3].startswith("TPIR@FPIR=0.01") and "at FPIR" in lines[3]
    record = result.to_dict()
    assert record["tpir_at_fpir"]["0.1"]["tpir"] == result.tpir[0.1][0]
    assert record["rank"]["1"] == result.ranks[1]
