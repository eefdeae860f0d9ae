"""Texts of the estimator's classes, from which head ``label_text`` knows them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.data.label_texts.keys import places_of, text_keys
from tfxc.data.label_texts.prepared import LabelTexts, features_of
from tfxc.data.reading.label_texts import text_of_name
from tfxc.data.reading.source_files import NAMES
from tfxc.estimator.targets import Targets

if TYPE_CHECKING:
    from tfxc.data.text.base import TextFeatures

_SHOWN = 3
_FIX = "pass a dict with a text for each class, or 'names'"


def texts_of_classes(
    label_texts: Mapping[Any, str] | str, targets: Targets, takes_more: bool
) -> tuple[Targets, list[str]]:
    """Returns the text of each class, and the targets with the classes that have nothing but a
    text.

    Args:
        label_texts: texts by class, or ``"names"`` for the classes themselves.
        targets: of ``y``.
        takes_more: whether there may be classes that ``y`` does not have; they get the ids after
            those of ``y``.

    Raises:
        ConfigError: a class has no text, or there is one too many.

    Example:
        >>> targets = Targets("single", np.array(["hen", "owl"]))
        >>> targets, texts = texts_of_classes({"owl": "an owl", "hen": "a hen"}, targets, True)
        >>> texts
        ['a hen', 'an owl']
    """
    classes = targets.classes.tolist()
    if isinstance(label_texts, str) and label_texts == NAMES:
        return targets, [text_of_name(name) for name in targets.names]
    if not isinstance(label_texts, Mapping):
        raise ConfigError(
            f"{label_texts!r:.80} is neither 'names' nor a dict of texts by class",
            where="label_texts",
            fix=_FIX,
        )
    for label, text in label_texts.items():
        if not isinstance(text, str) or not text.strip():
            raise ConfigError(
                f"the text of class {label!r} is {text!r:.80}", where="label_texts", fix=_FIX
            )
    missing = [label for label in classes if label not in label_texts]
    if missing:
        raise ConfigError(f"no text for {_shown(missing)}", where="label_texts", fix=_FIX)
    known = set(classes)
    more = [label for label in label_texts if label not in known]
    if more and (not takes_more or targets.form not in ("single", "lists")):
        raise ConfigError(
            f"there are texts of classes that y does not have: {_shown(more)}",
            where="label_texts",
            fix="leave them out",
        )
    if more:
        labels = [*classes, *more]
        if targets.classes.dtype == object:
            extended = np.empty(len(labels), object)
            extended[:] = labels
        else:
            extended = np.array(labels)
        if extended.dtype.kind != targets.classes.dtype.kind:
            raise ConfigError(
                f"the classes {_shown(more)} are of another kind than those of y, such as "
                f"{classes[0]!r}",
                where="label_texts",
                fix="make all of them texts, or all of them numbers",
            )
        targets = Targets(targets.form, extended)
    return targets, [label_texts[label] for label in targets.classes.tolist()]


def label_texts_of(
    texts: Sequence[str], examples: Sequence[str], text_features: "TextFeatures"
) -> LabelTexts:
    """Returns what training reads of the texts of classes.

    Args:
        texts: of the classes by id.
        examples: the training texts.
        text_features: fitted ones.

    Raises:
        ConfigError: the text features need more than texts.
    """
    keys = text_keys(texts)
    places = places_of(text_keys(examples), keys)
    return LabelTexts(features_of(texts, text_features), keys, places)


def _shown(labels: Sequence[Any]) -> str:
    some = ", ".join(map(repr, labels[:_SHOWN]))
    return some + (f" and {len(labels) - _SHOWN:,} more" * (len(labels) > _SHOWN))
