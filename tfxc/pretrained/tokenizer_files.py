"""Tokeniser files of a pretrained model's folder, brought into one form."""

import dataclasses
from pathlib import Path

from tfxc.core.errors import ConfigError, DataError
from tfxc.core.storage.files import write_json
from tfxc.core.storage.reading import existing_file, read_errors
from tfxc.pretrained.folder import (
    network_folder,
    read_hub_config,
    read_json,
    tokeniser_folder,
)
from tfxc.pretrained.sentencepiece import model_of_pieces, read_pieces

_WORDPIECE = {"kind": "wordpiece", "lowercase": True, "split_chinese": True}
_SPECIAL = {
    "[]": {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]"},
    "<s>": {"cls_token": "<s>", "sep_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
    "albert": {
        "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "<unk>", "pad_token": "<pad>",
    },
    "xlnet": {
        "cls_token": "<cls>", "sep_token": "<sep>", "unk_token": "<unk>", "pad_token": "<pad>",
    },
}  # fmt: skip
_STYLES = {
    "roberta": "<s>", "xlm-roberta": "<s>", "albert": "albert", "xlnet": "xlnet",
}  # fmt: skip
_CLASSES = {
    "Bert": "bert", "DistilBert": "bert", "Electra": "bert", "Roberta": "roberta",
    "XLMRoberta": "xlm-roberta", "Albert": "albert", "XLNet": "xlnet", "DebertaV2": "deberta-v2",
}  # fmt: skip
_MODEL_FILES = ("sentencepiece.bpe.model", "spiece.model", "spm.model")


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
    """``Subwords`` of a model's folder.

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
        family = _family(config, options, path)
        if family in ("bert", "distilbert", "electra"):
            found = _word_pieces(folder, options)
        elif family == "roberta":
            found = _byte_pairs(folder, options)
        else:
            found = _sentence_pieces(folder, family, options)
        special = _special_names(folder, options, family)
        return _with_special(found, special, family, config, folder)


def _family(config, options, path):
    name = options.get("tokenizer_class")
    if name is None:
        return config["model_type"]
    family = _CLASSES.get(name.removesuffix("Fast").removesuffix("Tokenizer"))
    if family is None:
        known = ", ".join(f"{name}Tokenizer" for name in _CLASSES)
        raise ConfigError(f"a tokenizer_class of {known} expected, found {name!r}", where=path)
    return family


def _special_names(folder, options, family):
    """Names of the special tokens: from the files, else those of the family."""
    names = dict(_SPECIAL[_STYLES.get(family, "[]")])
    path = folder / "special_tokens_map.json"
    for source in (read_json(path) if path.is_file() else {}, options):
        for key in names:
            value = source.get(key)
            value = value.get("content") if isinstance(value, dict) else value
            names[key] = value or names[key]
    return names


def _with_special(found, special, family, config, folder):
    number = {}
    for place, piece in enumerate(found.pieces):
        number.setdefault(piece, place)
    missing = [name for name in special.values() if name not in number]
    if missing:
        raise ConfigError(
            f"a vocabulary with {', '.join(special.values())} expected, {missing[0]} is missing",
            where=folder,
            fix="copy the tokeniser's files as a whole",
        )
    first, last = number[special["cls_token"]], number[special["sep_token"]]
    padding = number[special["pad_token"]]
    if padding != config["pad_token_id"]:
        raise ConfigError(
            f"pad_token_id {padding} (the id of {special['pad_token']} in the vocabulary) "
            f"expected in config.json, found {config['pad_token_id']}",
            where=folder,
        )
    settings = {
        **found.settings,
        "padding": padding,
        "unknown": number[special["unk_token"]],
        "prefix": [] if family == "xlnet" else [first],
        "suffix": [last, first] if family == "xlnet" else [last],
    }
    return dataclasses.replace(found, settings=settings)


def _word_pieces(folder, options):
    settings = {
        **_WORDPIECE,
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
            "the vocabulary has a piece twice", where=folder, fix="copy its file once more"
        )
    settings["strip_accents"] = settings["lowercase"] if accents is None else accents
    return Subwords(settings, pieces)


def _byte_pairs(folder, options):
    from tfxc.ops.text.subwords_bpe import byte_letters

    if options.get("add_prefix_space"):
        raise ConfigError(
            "add_prefix_space false expected, found true", where=folder / "tokenizer_config.json"
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
            fix="give a tokeniser of pairs of bytes, as RoBERTa has",
        )
    for merge in merges:
        parts = merge.split(" ")
        if len(parts) != 2 or not {*parts, "".join(parts)} <= vocabulary.keys():
            raise ConfigError(
                f"merges of pieces of the vocabulary expected, found {merge!r}",
                where=folder,
                fix="copy vocab.json and merges.txt of one model",
            )
    return Subwords({"kind": "bpe"}, pieces, merges=merges)


def _sentence_pieces(folder, family, options):
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
        settings |= {"lowercase": False, "strip_accents": False, "plain_quotes": False}
        settings |= _json_preparation(content)
    settings["model_unknown"] = unknown
    return Subwords(settings, pieces, model=model)


def _json_preparation(content):
    """What the normalizer of tokenizer.json does in addition to the model's own."""
    normalizer = content.get("normalizer") or {}
    steps = [step["type"] for step in normalizer.get("normalizers", [normalizer]) if step]
    return {
        "lowercase": "Lowercase" in steps,
        "strip_accents": "StripAccents" in steps,
        "plain_quotes": "StripAccents" in steps,
    }


def _tokenizer_json(folder, kind, usual):
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ConfigError(
            f"{usual} or tokenizer.json expected, found neither",
            where=folder,
            fix="copy the tokeniser's files next to config.json",
        )
    content = read_json(path)
    found = (content.get("model") or {}).get("type")
    if found != kind:
        raise ConfigError(f"a tokeniser of type {kind} expected, found {found!r}", where=path)
    return content


def _by_id(vocabulary, where):
    """Pieces in the order of their ids."""
    pieces = sorted(vocabulary, key=vocabulary.get)
    if [vocabulary[piece] for piece in pieces] != list(range(len(pieces))):
        raise ConfigError("a vocabulary with the ids 0, 1, 2 … expected", where=where)
    return pieces


def _text(path):
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"UTF-8 text expected ({error})", where=path) from None


def save_subwords(subwords: "Subwords", folder: Path) -> None:
    """Writes settings, pieces, model and merges into an existing folder."""
    content = {"settings": subwords.settings, "pieces": subwords.pieces, "merges": subwords.merges}
    write_json(folder / "subwords.json", content, indent=None)
    if subwords.model is not None:
        (folder / "subwords.model").write_bytes(subwords.model)


def load_subwords(folder: Path) -> "Subwords":
    """``Subwords`` as ``save_subwords`` wrote them.

    Raises:
        DataError: a file is missing or damaged.
    """
    path = folder / "subwords.json"
    try:
        content = read_json(path)
        settings, pieces, merges = (content[key] for key in ("settings", "pieces", "merges"))
        if not all(isinstance(piece, str) for piece in pieces):
            raise TypeError("a piece is no text")
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
            f"saved text features expected ({error})",
            where=path,
            fix="copy the run's text_features folder as a whole",
        ) from None
    return Subwords(settings, pieces, model, merges)
