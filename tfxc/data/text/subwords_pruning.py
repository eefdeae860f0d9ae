"""Subwords of a pretrained model without the pieces that the data does not need."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tfxc.pretrained.tokenizer_files import Subwords


# A special piece that no text is given, but that belongs to the model.
_MASKS = ("[MASK]", "<mask>")


def ordered_pieces(subwords: "Subwords") -> list[str]:
    """Returns all pieces by id, padding first."""
    pieces = list(subwords.pieces)
    padding = subwords.settings["padding"]
    pieces[0], pieces[padding] = pieces[padding], pieces[0]
    return pieces


def kept_ids(subwords: "Subwords", counts: np.ndarray, min_count: int) -> np.ndarray:
    """Returns the ids of the pieces that stay: those seen often enough, and the special ones.

    Args:
        subwords: ``tfxc.pretrained.tokenizer_files.Subwords`` as the model's folder has them.
        counts: how often each id occurs in the training texts.
        min_count: pieces that occur less often are dropped.

    Returns:
        int64, ascending.
    """
    settings = subwords.settings
    pieces = ordered_pieces(subwords)
    special = [settings["unknown"], *settings["prefix"], *settings["suffix"]]
    stay = np.asarray(counts) >= min_count
    stay[[0, *(_id(settings, place) for place in special)]] = True
    stay[[number for number, piece in enumerate(pieces) if piece in _MASKS]] = True
    return np.flatnonzero(stay)


def without(subwords: "Subwords", kept: np.ndarray) -> "Subwords":
    """Subwords whose ids are the places in ``kept``.

    WordPiece loses the other pieces, so that a word they stood in is cut into what is left. Byte
    pairs and SentencePiece cut as before, as a piece may be a step to others or share its score
    with them: a dropped id becomes that of the unknown piece.

    Args:
        subwords: as the model's folder has them.
        kept: see ``kept_ids``.
    """
    settings = dict(subwords.settings)
    pieces = ordered_pieces(subwords)
    if settings["kind"] != "wordpiece":
        settings["kept"] = kept.tolist()
        return dataclasses.replace(subwords, settings=settings)
    place = {number: new for new, number in enumerate(kept.tolist())}

    def moved(number: int) -> int:
        return place[_id(subwords.settings, number)]

    for name in ("prefix", "suffix"):
        settings[name] = [moved(number) for number in settings[name]]
    settings |= {"unknown": moved(settings["unknown"]), "padding": 0}
    return dataclasses.replace(subwords, settings=settings, pieces=[pieces[n] for n in kept])


def vocabulary_of(subwords: "Subwords") -> list[str]:
    """Returns the pieces by id, padding first; of pruned subwords those that are left."""
    pieces = ordered_pieces(subwords)
    kept = subwords.settings.get("kept")
    return pieces if kept is None else [pieces[number] for number in kept]


def _id(settings: Mapping[str, Any], place: int) -> int:
    """Returns the id of a place in the files: padding and 0 change theirs."""
    return {0: settings["padding"], settings["padding"]: 0}.get(place, place)
