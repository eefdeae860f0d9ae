"""Which encoding a text file is in that no byte order mark shows and that is not UTF-8."""

import codecs
import re
from collections.abc import Sequence
from pathlib import Path

from tfxc.core.storage.compression import decompressed
from tfxc.core.storage.reading import archive_errors, existing_file, read_errors
from tfxc.data.reading.parsing.lines import UTF_8, has_mark

# Bytes of a file that are looked at, and of those lines in it that are not ASCII.
_LOOKED_AT = 4 << 20
_MOST = 256 << 10
# Encodings in which tables are saved, by how many people use them: Windows' and those of East Asia.
_CANDIDATES = (
    "cp1252", "gb18030", "cp932", "cp1251", "cp949", "big5", "cp1250", "cp1254", "cp1253", "cp1256",
    "cp1255", "euc_jp",
)  # fmt: skip
# Bytes of letters that one of the encodings of Latin letters has and the others hardly use: s and z
# with a caron, of Czech; the three of Turkish that are those of Icelandic elsewhere, which has many
# a with an acute accent and ae as well.
_SIGNS = {
    "cp1250": re.compile(rb"(?s).*[\x8a\x8e\x9a\x9e]"),
    "cp1254": re.compile(rb"(?s)(?!.*[\xe1\xe6]).*[\xf0\xfd\xfe]"),
}
# What no text in another language has, however its bytes are read.
_JAPANESE = ("cp932", "euc_jp")
_HIRAGANA = re.compile("[\u3041-\u3096]")
_HIRAGANA_SHARE = 0.15
_WITHOUT_MARK = ("utf-16-le", "utf-16-be")
_SHOWN = 12  # characters of an example on each side of the first that is not ASCII


def detected_encoding(path: str | Path, usual: str | None = None) -> tuple[str, str] | None:
    """Returns the encoding of a text file, where neither a byte order mark nor UTF-8 shows it.

    The first 4 MB are looked at. Zero bytes show UTF-16; for any other encoding the package
    ``charset-normalizer`` is asked. Of encodings that read the text equally well, the one that more
    people use counts.

    Args:
        path: the file, perhaps compressed.
        usual: encoding that counts where it can read the text.

    Returns:
        Its name and a few characters read in it, empty where there is nothing to tell; None where
        the file is UTF-8, has a mark, cannot be told, or the package is missing.

    Raises:
        DataError: the file is missing, or a damaged compressed file.

    Example:
        >>> detected_encoding("windows.csv")        # doctest: +SKIP
        ('cp1252', 'costs 5 € a month')
    """
    with read_errors(path):
        file = open(existing_file(path), "rb")  # noqa: SIM115 (closed below)
    with file as raw, decompressed(raw, path) as stream, archive_errors(path):
        head = stream.read(_LOOKED_AT)
    if has_mark(head):
        return None
    if usual is not None and head.isascii() and "a".encode(usual) == b"a":
        return usual, ""  # such as ISO-2022-JP
    try:
        codecs.getincrementaldecoder(UTF_8)().decode(head)
    except UnicodeDecodeError:
        pass
    else:
        if b"\0" not in head:
            return None
    if b"\0" in head:
        # Characters of most scripts' punctuation, digits and line ends have a zero byte first or
        # second.
        candidates: Sequence[str] = sorted(
            _WITHOUT_MARK, key=lambda name: head[name.endswith("le") :: 2].count(0), reverse=True
        )[:1]
        sample = head[: len(head) // 2 * 2]
    else:
        lines = (line for line in head.split(b"\n") if not line.isascii())
        sample = b"\n".join(lines)[:_MOST].rpartition(b"\n")[0] or head[:_MOST]
        candidates = _likely(sample) if usual is None else [usual, *_likely(sample)]
    for name in candidates:
        try:
            text = codecs.getincrementaldecoder(name)().decode(sample)
        except (UnicodeDecodeError, LookupError):
            continue
        if "\0" in text or (b"\0" in head and "\n" not in text):
            continue  # no text at all
        sign = re.search(r"[^\x00-\x7f]", text)
        place = 0 if sign is None else sign.start()
        line_start = text.rfind("\n", 0, place) + 1
        shown = text[max(line_start, place - _SHOWN) : place + _SHOWN].split("\n")[0]
        return name, shown.strip()
    return None


def _likely(sample: bytes) -> list[str]:
    """Returns the encodings that read a text best, the likeliest first; without the package only
    those of Japanese.
    """
    for name in _JAPANESE:
        try:
            text = codecs.getincrementaldecoder(name)().decode(sample)
        except UnicodeDecodeError:
            continue
        if len(_HIRAGANA.findall(text)) > _HIRAGANA_SHARE * len(re.sub("[\x00-\x7f]", "", text)):
            return [name]
    try:
        import charset_normalizer
    except ImportError:
        return []
    matches = list(
        charset_normalizer.from_bytes(
            sample,
            cp_isolation=list(_CANDIDATES),
            enable_fallback=False,
            preemptive_behaviour=False,
        )
    )
    if not matches:
        return []
    best = matches[0]
    equal = {name for name in best.could_be_from_charset if name in _CANDIDATES}
    equal |= {
        match.encoding
        for match in matches
        if (match.chaos, match.coherence) == (best.chaos, best.coherence)
    }
    preferred = [name for name, sign in _SIGNS.items() if name in equal and sign.match(sample)]
    return [*preferred, *sorted(equal.difference(preferred), key=_CANDIDATES.index)]
