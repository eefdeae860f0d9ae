"""What accompanies an exported model: label names, text features, programs that use them.

The programs, ``predict.py`` and for texts ``text_features/tokenize.py``, are copies of the files in
``tfxc/exports/standalone/``. They run without tfxc and TensorFlow.
"""

import importlib.util
import re
import shutil
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.storage import checksums
from tfxc.core.storage.files import copy_folder, write_json
from tfxc.core.storage.ownership import MARKER, mark
from tfxc.core.storage.reading import read_json
from tfxc.data.examples.kinds import DENSE, IMAGE, SPARSE, TEXT
from tfxc.data.text.given import GivenTerms
from tfxc.data.text.static import StaticFeatures
from tfxc.exports.parity import sample_rows
from tfxc.exports.standalone import tokenize
from tfxc.ops.text.token_patterns import WORDS, python_pattern, shortest_run

if TYPE_CHECKING:
    from tfxc.data.text.base import TextFeatures
    from tfxc.runs.loaded import LoadedRun


#: Names in an exported folder.
ABOUT = "export.json"
PROGRAM = "predict.py"
TOKENIZER = "tokenize.py"
TEXT_FEATURES = "text_features"
_LABELS = "labels.txt"
_SUBWORDS = "pretrained"  # text features that need protobuf, which not every installation has
_COMPILED = "__pycache__"  # Python's, once it has run the programs
#: All names there may be, next to the model's.
NAMES = (ABOUT, PROGRAM, TEXT_FEATURES, _LABELS, checksums.FILE, _COMPILED)
_VERSION = 1
_PROGRAMS = Path(tokenize.__file__).parent
_TOLERANCE = 1e-5
# What means the same in RE2 and in Python's re: no ends of texts, no options, no named classes.
_ALIKE = re.compile(r"(?:\\[wWdDsStnrfv]|\\[^\w\s]|\[(?!:)|\((?:\?(?::|P<\w+>)|(?!\?))|[^\\$(\[])*")


def write_bundle(
    loaded_run: "LoadedRun", folder: Path, input_kind: str, about: Mapping[str, Any]
) -> str | None:
    """Writes everything but the model into the folder of an export.

    Args:
        loaded_run: the ``LoadedRun`` that is exported.
        folder: holds the model already.
        input_kind: name of the kind of the model's features.
        about: what ``predict.py`` has to know of the model: ``format``, ``file``, ``batch``, ``k``
            and ``probabilities``.

    Returns:
        What keeps the programs from reading the run's examples, so that they are not there; None if
        they are.

    Raises:
        RuntimeError: ``tokenize.py`` cuts texts otherwise than the run: a bug.
    """
    assets = loaded_run.folder / "assets"
    shutil.copyfile(assets / _LABELS, folder / _LABELS)
    part = loaded_run.kind.component_named(input_kind) or ""
    texts = assets / TEXT_FEATURES / part
    if texts.is_dir():
        copy_folder(texts, folder / TEXT_FEATURES)
    features = loaded_run.text_features
    features = getattr(features, part) if part and features is not None else features
    if features is None or isinstance(features, GivenTerms):
        takes = input_kind
        if input_kind not in (SPARSE.name, DENSE.name, IMAGE.name):
            return f"features of kind {input_kind}"
    else:
        takes = TEXT.name
        missing = _write_tokenizer(loaded_run, features, folder / TEXT_FEATURES, part)
        if missing is not None:
            return missing
    sizes = {name: loaded_run.manifest.get(name) for name in ("num_features", "image_shape")}
    content = {"version": _VERSION, **about, "input_kind": takes, **sizes}
    write_json(folder / ABOUT, content, indent=1)
    shutil.copyfile(_PROGRAMS / PROGRAM, folder / PROGRAM)
    return None


def _write_tokenizer(
    loaded_run: "LoadedRun", features: "TextFeatures", folder: Path, part: str
) -> str | None:
    """Returns what keeps ``tokenize.py`` from cutting the texts; None once it is there and
    does so.
    """
    missing = missing_in_tokenizer(features)
    if missing is not None:
        return missing
    write_heads(features, folder)
    subwords = features.name == _SUBWORDS
    if subwords:
        from tfxc.data.text.subwords import PretrainedTokens
        from tfxc.data.text.subwords_pruning import ordered_pieces
        from tfxc.pretrained.tokenizer_json import tokenizer_json

        assert isinstance(features, PretrainedTokens) and features.subwords is not None, "fitted"
        pieces = ordered_pieces(features.subwords)
        content = tokenizer_json(features.subwords, pieces, features.settings()["max_length"])
        write_json(folder / "tokenizer.json", content, indent=None)
    # Without the package, subwords cannot be compared.
    has_package = importlib.util.find_spec("tokenizers") is not None
    if has_package or not (folder / "tokenizer.json").exists():
        texts = sample_rows(loaded_run)[1] or []
        right = features.kind.tensors_of(features.kind.arrays_of(features.transform(texts)))
        alike = all(
            values.shape == right[name].shape
            and np.allclose(values, right[name], rtol=_TOLERANCE, atol=_TOLERANCE)
            for name, values in tokenize.load(folder)(texts).items()
        )
        if not alike and not subwords:
            raise RuntimeError(f"{TOKENIZER} does not cut texts as the run's {part or 'features'}")
        if not alike:
            (folder / "tokenizer.json").unlink()
            return "subwords that the package tokenizers cuts otherwise"
    shutil.copyfile(_PROGRAMS / TOKENIZER, folder / TOKENIZER)
    names = sorted(path.name for path in folder.iterdir() if path.name != MARKER)
    mark(folder, "set of text features", [*names, _COMPILED])
    return None


def write_heads(features: "TextFeatures", folder: Path) -> None:
    """Writes what ``head_of_tokenizer`` says into the folder of text features, and of those that
    they are made of.
    """
    head = read_json(folder / "features.json")
    write_json(folder / "features.json", head | head_of_tokenizer(features), indent=1)
    for name, part in features.nested.items():
        write_heads(part, folder / name)


def missing_in_tokenizer(features: "TextFeatures") -> str | None:
    """Returns what text features need that ``tokenize.py`` does not have; None if it has
    everything.

    Args:
        features: text features of ``tfxc.data.text``.
    """
    for part in features.nested.values():
        missing = missing_in_tokenizer(part)
        if missing is not None:
            return missing
    settings = features.settings()
    if features.name not in tokenize.KINDS:
        return f"text features {features.name!r}"
    if settings.get("segmenter") is not None:
        return f"the segmenter {settings['segmenter']!r}"
    pattern = settings.get("token_pattern")
    if pattern is not None and shortest_run(pattern) is None and not is_alike(pattern):
        return f"the token_pattern {pattern!r}, which Python's re may read otherwise,"
    if features.name == _SUBWORDS:
        from tfxc.data.text.subwords import PretrainedTokens
        from tfxc.pretrained.tokenizer_json import missing_in_json

        assert isinstance(features, PretrainedTokens) and features.subwords is not None, "fitted"
        return missing_in_json(features.subwords)
    return None


def head_of_tokenizer(features: "TextFeatures") -> dict[str, str | int]:
    """Returns what ``tokenize.py`` finds in ``features.json`` besides name and settings.

    Args:
        features: text features of ``tfxc.data.text``.

    Returns:
        ``unicode``: the version of the tables that say what letters and their lower case are, those
        of this Python. ``word``: the words, as a pattern of Python's ``re``, where the texts are
        cut into words. ``first``: the first column of the vectors of ``static``.
    """
    settings = features.settings()
    words = WORDS if settings.get("letters_only") else settings.get("token_pattern")
    head: dict[str, str | int] = {"unicode": unicodedata.unidata_version}
    if isinstance(features, StaticFeatures):
        head["first"] = features.first
    return head if words is None else {**head, "word": python_pattern(words)}


def is_alike(pattern: str) -> bool:
    r"""Tells whether Python's ``re`` finds what a pattern of RE2 finds, see
    ``ops.text.token_patterns``.

    Example:
        >>> is_alike("[a-z]+"), is_alike("[[:alpha:]]+"), is_alike(r"\pL+")
        (True, False, False)
    """
    pattern = pattern.removeprefix("(?u)")
    if not _ALIKE.fullmatch(pattern) or "[:" in pattern or "{," in pattern:
        return False
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True
