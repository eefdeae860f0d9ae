"""Texts of the estimator's classes, from which head ``label_text`` knows them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.data.label_texts import NAMES
from tfxc.data.label_texts.file import text_of_name
from tfxc.data.label_texts.keys import places_of, text_keys
from tfxc.data.label_texts.prepared import LabelTexts, features_of
from tfxc.estimator.targets import Targets

if TYPE_CHECKING:
    from tfxc.data.text.base import TextFeatures

_SHOWN = 3


def texts_of_classes(
    given: Mapping[Any, str] | str, targets: Targets, takes_more: bool
) -> tuple[Targets, list[str]]:
    """The text of each class, and the targets with the classes that have nothing but a text.

    Args:
        given: texts by class, or ``"names"`` for the classes themselves.
        targets: of ``y``.
        takes_more: whether there may be classes that ``y`` does not have; they get the ids after
            those of ``y``.

    Raises:
        ConfigError: a class has no text, or there is one too many.

    Example:
        >>> targets = Targets("single", np.array(["hen", "owl"]))
        >>> found, texts = texts_of_classes({"owl": "an owl", "hen": "a hen"}, targets, True)
        >>> texts
        ['a hen', 'an owl']
    """
    classes = targets.classes.tolist()
    if isinstance(given, str) and given == NAMES:
        return targets, [text_of_name(name) for name in targets.names]
    if not isinstance(given, Mapping):
        raise _error("'names' or a dict of texts by class expected", f"{given!r:.80}")
    for label, text in given.items():
        if not isinstance(text, str) or not text.strip():
            raise _error(f"a text expected for class {label!r}", f"{text!r:.80}")
    missing = [label for label in classes if label not in given]
    if missing:
        raise _error(f"a text for each of {len(classes):,} classes expected", _shown(missing))
    known = set(classes)
    more = [label for label in given if label not in known]
    if more and (not takes_more or targets.form not in ("single", "lists")):
        raise _error("classes of y expected", f"others: {_shown(more, '')}")
    targets = Targets(targets.form, _extended(targets.classes, more)) if more else targets
    return targets, [given[label] for label in targets.classes.tolist()]


def label_texts_of(
    texts: Sequence[str], examples: Sequence[str], text_features: "TextFeatures"
) -> LabelTexts:
    """What training reads of the texts of classes.

    Args:
        texts: of the classes by id.
        examples: the training texts.
        text_features: fitted ones.

    Raises:
        ConfigError: the text features need more than texts.
    """
    keys = text_keys(texts)
    own = places_of(text_keys(examples), keys)
    return LabelTexts(features_of(texts, text_features), keys, own)


def _extended(classes, more):
    """An array of the classes and others, which have to be of the same kind."""
    whole = [*classes.tolist(), *more]
    if classes.dtype == object:
        found = np.empty(len(whole), object)
        found[:] = whole
        return found
    found = np.array(whole)
    if found.dtype.kind != classes.dtype.kind:
        raise _error(f"classes of one kind expected, as {classes[0].item()!r}", _shown(more, ""))
    return found


def _error(expected, found):
    return ConfigError(f"{expected}, found {found}", where="label_texts")


def _shown(labels, start="none for "):
    some = ", ".join(map(repr, labels[:_SHOWN]))
    return f"{start}{some}" + (f" and {len(labels) - _SHOWN:,} more" * (len(labels) > _SHOWN))
