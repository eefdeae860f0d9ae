"""Subwords as the file ``tokenizer.json`` of the package tokenizers, for use without TensorFlow."""

from collections.abc import Mapping
from typing import Any

from tfxc.core.errors import ConfigError
from tfxc.pretrained.sentencepiece import model_of_pieces
from tfxc.pretrained.tokenizer_files import Subwords

_LONGEST_WORD = 100  # characters; longer ones are unknown, as the models were trained
_KINDS = ("wordpiece", "bpe")


def missing_in_json(subwords: Subwords) -> str | None:
    """Returns what subwords have that ``tokenizer_json`` cannot write; None if it can.

    Args:
        subwords: ``Subwords`` of a run.
    """
    kind = subwords.settings["kind"]
    if kind not in _KINDS:
        return f"subwords of kind {kind}"
    if "kept" in subwords.settings:
        return f"a pruned vocabulary of kind {kind}"
    return None


def tokenizer_json(subwords: Subwords, pieces: list[str], max_length: int) -> dict[str, Any]:
    """Returns the content of ``tokenizer.json``, whose ids are those of the run.

    Special tokens spelled in a text are cut as any other, as in a run.

    Args:
        subwords: those for which ``missing_in_json`` is None.
        pieces: all by the run's ids, padding first.
        max_length: ids of a text, special ones included.

    Example:
        >>> settings = {"kind": "wordpiece", "lowercase": True, "strip_accents": True,
        ...     "split_chinese": True, "unknown": 1, "padding": 0, "prefix": [2], "suffix": [3]}
        >>> pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "fox"]
        >>> tokenizer_json(Subwords(settings, pieces), pieces, 8)["model"]["vocab"]["fox"]
        4
    """
    settings = subwords.settings
    vocabulary: dict[str, int] = {}
    for number, piece in enumerate(pieces):
        vocabulary.setdefault(piece, number)
    unknown = subwords.pieces[settings["unknown"]]
    prefix = [subwords.pieces[number] for number in settings["prefix"]]
    suffix = [subwords.pieces[number] for number in settings["suffix"]]
    steps: list[dict[str, Any]] = [
        *({"SpecialToken": {"id": name, "type_id": 0}} for name in prefix),
        {"Sequence": {"id": "A", "type_id": 0}},
        *({"SpecialToken": {"id": name, "type_id": 0}} for name in suffix),
    ]
    if settings["kind"] == "wordpiece":
        parts: dict[str, Any] = {
            "normalizer": {
                "type": "BertNormalizer",
                "clean_text": True,
                "handle_chinese_chars": settings["split_chinese"],
                "strip_accents": settings["strip_accents"],
                "lowercase": settings["lowercase"],
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "model": {
                "type": "WordPiece",
                "unk_token": unknown,
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": _LONGEST_WORD,
                "vocab": vocabulary,
            },
        }
    else:
        parts = {
            "normalizer": None,
            "pre_tokenizer": {
                "type": "ByteLevel",
                "add_prefix_space": False,
                "trim_offsets": True,
                "use_regex": True,
            },
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": unknown,
                "continuing_subword_prefix": "",
                "end_of_word_suffix": "",
                "fuse_unk": False,
                "byte_fallback": False,
                "vocab": vocabulary,
                "merges": [merge.split(" ") for merge in subwords.merges or ()],
            },
        }
    return {
        "version": "1.0",
        "truncation": {
            "direction": "Right",
            "max_length": max_length,
            "strategy": "LongestFirst",
            "stride": 0,
        },
        "padding": None,
        "added_tokens": [],
        "post_processor": {
            "type": "TemplateProcessing",
            "single": steps,
            "pair": [*steps, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {
                name: {"id": name, "ids": [vocabulary[name]], "tokens": [name]}
                for name in (*prefix, *suffix)
            },
        },
        "decoder": None,
        **parts,
    }


def subwords_of_json(content: Mapping[str, Any], where: str) -> Subwords:
    """Returns what cuts texts as a tokenizer.json does, without special tokens.

    Args:
        content: of the file.
        where: for messages.

    Raises:
        ConfigError: ``Subwords`` cannot say how it cuts texts.
    """
    model = content["model"]
    normalizer = content.get("normalizer") or {}
    settings: dict[str, Any] = {"padding": 0, "unknown": 0, "prefix": [], "suffix": []}
    if model["type"] == "WordPiece" and normalizer.get("type") == "BertNormalizer":
        lowercase = normalizer.get("lowercase", True)
        accents = normalizer.get("strip_accents")
        settings |= {
            "kind": "wordpiece",
            "unknown": model["vocab"][model["unk_token"]],
            "lowercase": lowercase,
            "strip_accents": lowercase if accents is None else accents,
            "split_chinese": normalizer.get("handle_chinese_chars", True),
        }
        return Subwords(settings, sorted(model["vocab"], key=model["vocab"].__getitem__))
    if model["type"] == "BPE" and model.get("byte_fallback"):
        settings |= dict.fromkeys(("lowercase", "strip_accents", "plain_quotes"), False)
        settings |= {"kind": "sentencepiece", "offset": 0, "model_unknown": 0}
        return Subwords(settings, [], model=model_of_pieces(content, where))
    raise ConfigError(
        f"a graph cannot cut texts by a tokenizer of type {model['type']} with normalizer "
        f"{normalizer.get('type')}",
        where=where,
        fix="export the format runtime, or choose another table",
    )
