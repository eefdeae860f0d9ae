"""Tokeniser files of a pretrained model's folder, brought into one form."""

import dataclasses
from pathlib import Path
from typing import Any

from tfxc.core.errors import ConfigError, DataError
from tfxc.core.storage.files import write_json
from tfxc.core.storage.reading import existing_file, read_errors
from tfxc.pretrained.folder import network_folder, read_hub_config, read_json, tokeniser_folder
from tfxc.pretrained.sentencepiece import model_of_pieces, read_pieces

_SPECIAL = {
    "[]": {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]"},
    "<s>": {"cls_token": "<s>", "sep_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
    "albert": {
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
    },
    "xlnet": {
        "cls_token": "<cls>",
        "sep_token": "<sep>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
    },
}
_STYLES = {"roberta": "<s>", "xlm-roberta": "<s>", "albert": "albert", "xlnet": "xlnet"}
_CLASSES = {
    "Bert": "bert",
    "DistilBert": "bert",
    "Electra": "bert",
    "Roberta": "roberta",
    "XLMRoberta": "xlm-roberta",
    "Albert": "albert",
    "XLNet": "xlnet",
    "DebertaV2": "deberta-v2",
}
_MODEL_FILES = ("sentencepiece.bpe.model", "spiece.model", "spm.model")
_COPY = "copy the tokeniser's files as a whole"


@dataclasses.dataclass(frozen=True)
class Subwords:
    """What cuts texts for one pretrained model.

    Attributes:
        settings: dict, JSON: ``kind`` (``"wordpiece"``, ``"bpe"`` or ``"sentencepiece"``), the ids
            ``padding`` and ``unknown``, ``prefix`` and ``suffix`` (ids around each text), how texts
            are prepared.
        pieces: list of the pieces by the files' ids.
        model: bytes of the SentencePiece model, or None.
        merges: list of ``"left right"`` of byte pairs, or None.
    """

    settings: dict
    pieces: list
    model: bytes | None = None
    merges: list | None = None


def read_subwords(folder: Path) -> "Subwords":
    """Returns the ``Subwords`` of a model's folder.

    The kind follows ``tokenizer_class`` of tokenizer_config.json, else the model's type.

    Raises:
        ConfigError: a file is missing or damaged, or the tokeniser is of another class.
    """
    config = read_hub_config(network_folder(folder))
    folder = tokeniser_folder(folder)
    fix = "copy or download the tokeniser's files again"
    # Values of the wrong type, wherever they are.
    with read_errors(folder, fix=fix, error=ConfigError):
        path = folder / "tokenizer_config.json"
        options = read_json(path) if path.is_file() else {}
        family = config["model_type"]
        name = options.get("tokenizer_class")
        if name is not None:
            family = _CLASSES.get(name.removesuffix("Fast").removesuffix("Tokenizer"))
        if family is None:
            raise ConfigError(
                f"tfxc cannot read a tokeniser of class {name!r}",
                where=path,
                fix=f"give one of class {', '.join(f'{known}Tokenizer' for known in _CLASSES)}",
            )
        if family in ("bert", "distilbert", "electra"):
            subwords = _word_pieces(folder, options)
        elif family == "roberta":
            subwords = _byte_pairs(folder, options)
        else:
            subwords = _sentence_pieces(folder, family, options)
        return _with_special_ids(subwords, folder, family, options, config["pad_token_id"])


def _with_special_ids(
    subwords: Subwords, folder: Path, family: str, options: dict[str, Any], padding: int
) -> Subwords:
    """Subwords with the ids of special tokens, whose names are the files', else the family's."""
    special = dict(_SPECIAL[_STYLES.get(family, "[]")])
    path = folder / "special_tokens_map.json"
    for source in (read_json(path) if path.is_file() else {}, options):
        for key in special:
            value = source.get(key)
            value = value.get("content") if isinstance(value, dict) else value
            special[key] = value or special[key]
    ids: dict[str, int] = {}
    for number, piece in enumerate(subwords.pieces):
        ids.setdefault(piece, number)
    missing = [name for name in special.values() if name not in ids]
    if missing:
        raise ConfigError(f"the vocabulary lacks {', '.join(missing)}", where=folder, fix=_COPY)
    if ids[special["pad_token"]] != padding:
        raise ConfigError(
            f"config.json says pad_token_id {padding}, but {special['pad_token']} has the id "
            f"{ids[special['pad_token']]} in the vocabulary",
            where=folder,
            fix="copy config.json and the tokeniser's files of one model",
        )
    first = ids[special["cls_token"]]
    last = ids[special["sep_token"]]
    settings = {
        **subwords.settings,
        "padding": padding,
        "unknown": ids[special["unk_token"]],
        "prefix": [] if family == "xlnet" else [first],
        "suffix": [last, first] if family == "xlnet" else [last],
    }
    return dataclasses.replace(subwords, settings=settings)


def _word_pieces(folder: Path, options: dict[str, Any]) -> Subwords:
    settings = {
        "kind": "wordpiece",
        "lowercase": options.get("do_lower_case", True),
        "split_chinese": options.get("tokenize_chinese_chars", True),
    }
    accents = options.get("strip_accents")
    path = folder / "vocab.txt"
    if path.is_file():
        pieces = _text(path).split("\n")
        pieces = [piece.rstrip("\r") for piece in (pieces if pieces[-1] else pieces[:-1])]
    else:
        content = _tokenizer_json(folder, "WordPiece", "vocab.txt")
        pieces = _by_id(content["model"]["vocab"], folder)
        normalizer = content.get("normalizer") or {}
        settings["lowercase"] = normalizer.get("lowercase", settings["lowercase"])
        settings["split_chinese"] = normalizer.get("handle_chinese_chars", True)
        accents = normalizer.get("strip_accents")
    if len({*pieces}) < len(pieces):
        raise ConfigError(
            "a piece occurs twice in the vocabulary", where=folder, fix="copy its file again"
        )
    settings["strip_accents"] = settings["lowercase"] if accents is None else accents
    return Subwords(settings, pieces)


def _byte_pairs(folder: Path, options: dict[str, Any]) -> Subwords:
    from tfxc.ops.text.subwords_bpe import byte_letters

    if options.get("add_prefix_space"):
        raise ConfigError(
            "tfxc cannot read a tokeniser with add_prefix_space",
            where=folder / "tokenizer_config.json",
            fix="give one whose add_prefix_space is false",
        )
    if (folder / "vocab.json").is_file():
        vocabulary = read_json(folder / "vocab.json")
        path = folder / "merges.txt"
        if not path.is_file():
            read_json(path)  # says that the file is missing
        lines = _text(path).split("\n")
        merges = [line for line in lines if line and not line.startswith("#version")]
    else:
        model = _tokenizer_json(folder, "BPE", "vocab.json")["model"]
        vocabulary = model["vocab"]
        merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    pieces = _by_id(vocabulary, folder)
    missing = [letter for letter in byte_letters() if letter not in vocabulary]
    if missing:
        raise ConfigError(
            f"the vocabulary lacks {len(missing)} of the 256 bytes, such as {missing[0]!r}",
            where=folder,
            fix="give a tokeniser of byte pairs, like that of RoBERTa",
        )
    for merge in merges:
        parts = merge.split(" ")
        if len(parts) != 2 or not {*parts, "".join(parts)} <= vocabulary.keys():
            raise ConfigError(
                f"the merge {merge!r} is not of two pieces of the vocabulary",
                where=folder,
                fix="copy vocab.json and merges.txt of one model",
            )
    return Subwords({"kind": "bpe"}, pieces, merges=merges)


def _sentence_pieces(folder: Path, family: str, options: dict[str, Any]) -> Subwords:
    albert = family in ("albert", "xlnet")
    settings = {
        "kind": "sentencepiece",
        "lowercase": options.get("do_lower_case", family == "albert"),
        "strip_accents": albert and not options.get("keep_accents", False),
        "plain_quotes": albert,
        "offset": 0,
    }
    path = next((folder / name for name in _MODEL_FILES if (folder / name).is_file()), None)
    if path is not None:
        model = path.read_bytes()
        pieces, unknown = read_pieces(model, path)
        if family == "xlm-roberta":
            # Its ids begin with four of fairseq's, so the model's own are one less.
            settings["offset"] = 1
            pieces = ["<s>", "<pad>", "</s>", "<unk>", *pieces[3:], "<mask>"]
    else:
        content = _tokenizer_json(folder, "Unigram", _MODEL_FILES[0])
        pieces = [piece for piece, _ in content["model"]["vocab"]]
        unknown = content["model"]["unk_id"]
        model = model_of_pieces(content, folder)
        read_pieces(model, folder / "tokenizer.json")  # refuses what the library cannot load
        # What the file's normalizer does in addition to the model's own.
        normalizer = content.get("normalizer") or {}
        steps = [step["type"] for step in normalizer.get("normalizers", [normalizer]) if step]
        settings["lowercase"] = "Lowercase" in steps
        settings["strip_accents"] = "StripAccents" in steps
        settings["plain_quotes"] = "StripAccents" in steps
    settings["model_unknown"] = unknown
    return Subwords(settings, pieces, model=model)


def _tokenizer_json(folder: Path, kind: str, usual: str) -> dict[str, Any]:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ConfigError(
            f"the folder has neither {usual} nor tokenizer.json",
            where=folder,
            fix="copy the tokeniser's files next to config.json",
        )
    content = read_json(path)
    model_kind = (content.get("model") or {}).get("type")
    if model_kind != kind:
        raise ConfigError(
            f"the tokeniser is of type {model_kind!r} instead of {kind}", where=path, fix=_COPY
        )
    return content


def _by_id(vocabulary: dict[str, int], where: Path) -> list[str]:
    """Pieces in the order of their ids."""
    items = sorted(vocabulary.items(), key=lambda item: item[1])
    if [number for _, number in items] != list(range(len(items))):
        raise ConfigError(
            "the ids of the vocabulary are not 0, 1, 2 and so on", where=where, fix=_COPY
        )
    return [piece for piece, _ in items]


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"the file cannot be read as UTF-8 text: {error}", where=path, fix=_COPY
        ) from None


def save_subwords(subwords: "Subwords", folder: Path) -> None:
    """Writes settings, pieces, model and merges into an existing folder."""
    content = {"settings": subwords.settings, "pieces": subwords.pieces, "merges": subwords.merges}
    write_json(folder / "subwords.json", content, indent=None)
    if subwords.model is not None:
        (folder / "subwords.model").write_bytes(subwords.model)


def load_subwords(folder: Path) -> "Subwords":
    """Returns ``Subwords`` as ``save_subwords`` wrote them.

    Raises:
        DataError: a file is missing or damaged.
    """
    path = folder / "subwords.json"
    try:
        content = read_json(path)
        settings = content["settings"]
        pieces = content["pieces"]
        merges = content["merges"]
        if not all(isinstance(piece, str) for piece in pieces):
            raise TypeError("a piece is not a text")
        model = None
        if settings["kind"] == "sentencepiece":
            path = folder / "subwords.model"
            model = existing_file(path).read_bytes()
            read_pieces(model, path)
        elif settings["kind"] == "bpe" and not isinstance(merges, list):
            raise TypeError("the merges of byte pairs are missing")
        elif settings["kind"] not in ("bpe", "wordpiece"):
            raise ValueError(f"unknown kind {settings['kind']!r}")
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"the saved text features are damaged: {error}",
            where=path,
            fix="copy the run's text_features folder as a whole",
        ) from None
    return Subwords(settings, pieces, model, merges)
