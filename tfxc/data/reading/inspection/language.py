"""Which language texts are probably in, by their script and by the words that every text has."""

import collections
import re
import unicodedata
from collections.abc import Iterable

# Frequent short words, hardly any of which another of these languages has.
_WORDS = {
    "English": "the of and to is that it was for with this are have not you from",
    "German": "der die und das ist nicht mit sich auf eine für dem ein ich wie auch",
    "French": "le les des est et une dans pour que qui pas sur avec ce je vous",
    "Spanish": "el los las y es una por para con del que su lo como más pero",
    "Italian": "il di che un per non sono gli della con nel anche alla più del",
    "Portuguese": "os não um uma para com do da em dos mais você são como ao",
    "Dutch": "de het een en van niet dat is op te zijn voor met ik aan ook",
    "Swedish": "och att det som en är på av för inte med den jag har till ett",
    "Polish": "nie na się do to że jest jak po od za ale przez oraz",
    "Turkish": "ve bir bu için ile da de çok ne gibi daha var ama olarak mi en",
}
_LANGUAGES = collections.defaultdict[str, list[str]](list)
for _language, _words in _WORDS.items():
    for _word in _words.split():
        _LANGUAGES[_word].append(_language)
# Scripts of one widely written language, as the names of their letters in Unicode begin.
_SCRIPTS = {
    "HIRAGANA": "Japanese",
    "KATAKANA": "Japanese",
    "CJK": "Chinese",
    "HANGUL": "Korean",
    "GREEK": "Greek",
    "HEBREW": "Hebrew",
    "THAI": "Thai",
    "ARABIC": "Arabic script",
    "CYRILLIC": "Cyrillic script",
    "DEVANAGARI": "Devanagari script",
}
_WORD = re.compile(r"\b[^\W\d_]{2,}\b")
_CHARACTERS = 200  # of a text
_FEWEST = 20  # of such words in all texts
_AHEAD = 1.5  # times the words of the second language
_SHARE = 0.05  # of all words
_KANA = 0.05  # of all letters: Japanese, which has Chinese ones as well
_MAJORITY = 0.5


def language_of(texts: Iterable[str]) -> str | None:
    """Returns the language, or the script, of most texts; None if it does not show.

    Args:
        texts: some of them.

    Example:
        >>> language_of(["where is my parcel", "the card that I ordered was not in it"] * 9)
        'English'
        >>> language_of(["商品がまだ届きません"]), language_of(["x12", "y"])
        ('Japanese', None)
    """
    words: collections.Counter[str] = collections.Counter()
    letters: collections.Counter[str] = collections.Counter()
    total = 0
    for text in texts:
        for word in _WORD.findall(text[:_CHARACTERS].lower()):
            total += 1
            words.update(_LANGUAGES.get(word, ()))
            if not word.isascii():
                letters.update(character for character in word if not character.isascii())
            letters["LATIN"] += sum(map(str.isascii, word))
    scripts: collections.Counter[str] = collections.Counter()
    for letter, count in letters.items():
        scripts[letter if letter == "LATIN" else unicodedata.name(letter, "").split(" ")[0]] += (
            count
        )
    if not scripts:
        return None
    if scripts["HIRAGANA"] + scripts["KATAKANA"] > _KANA * scripts.total():
        return _SCRIPTS["HIRAGANA"]
    script, count = scripts.most_common(1)[0]
    if script != "LATIN":
        return _SCRIPTS.get(script) if count > _MAJORITY * scripts.total() else None
    first, second = [*words.most_common(2), ("", 0), ("", 0)][:2]
    clear = first[1] >= max(_FEWEST, _SHARE * total, _AHEAD * second[1])
    return first[0] if clear else None
