"""What text features learn from a stream of texts that is read once."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

from tfxc.core.progress import Progress


class Learner(NamedTuple):
    """What learns from texts.

    Attributes:
        add: takes a list of lists of texts; each list may be counted in a process of its own.
        finish: called once, behind the last list.
    """

    add: Callable
    finish: Callable


def fitted(features, text_lists, jobs=1):
    """``features``, after they have learnt from texts.

    Args:
        features: text features with ``learner(jobs)``, which gives a ``Learner``, or None where
            there is nothing to learn from texts: these are not read then.
        text_lists: iterable of lists of texts, read once, ``jobs`` lists at a time.
        jobs: processes to use at most.
    """
    learner = features.learner(jobs)
    if learner is None:
        return features
    text_lists = iter(text_lists)
    with Progress("counting terms", unit="texts") as progress:
        while window := list(itertools.islice(text_lists, jobs)):
            learner.add(window)
            progress.advance(sum(map(len, window)))
    learner.finish()
    return features
