"""Diagnoses of ICD-10-CM: titles of the codes, and other names that a code includes.

Half of the other names are training examples, 15 % the dev split; the rest is for a test that is
not written. Names of several codes, and those that are a title, are left out.
"""

import collections
import random
import xml.etree.ElementTree
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tfxc.core.storage.reading import archive_errors
from tfxc.data.reading.downloads.rows import Row, another_form, example, label_text

_TABLE = "simple_icd_10_cm/data/icd10c-tabular-April-1-2026.xml"
# Random words of 32 bits that the synonyms and genes of the Gene Ontology took: one generator drew
# both sets.
_DRAWN_BEFORE = 210_343


def diagnoses(files: Mapping[str, Path]) -> dict[str, list[Row]]:
    """Returns phrases with their code, and the titles above each code and its own."""
    (wheel,) = files.values()
    with archive_errors(wheel), zipfile.ZipFile(wheel) as archive:
        try:
            root = xml.etree.ElementTree.fromstring(archive.read(_TABLE))
        except (KeyError, xml.etree.ElementTree.ParseError) as error:
            raise another_form(wheel, str(error)) from error
    codes = [
        found
        for section in root.iterfind("chapter/section")
        for top in section.iterfind("diag")
        for found in _codes(top, ())
    ]
    titles = {path[-1].lower() for _, path, _ in codes}
    times = collections.Counter(name.lower() for *_, names in codes for name in names)
    draws = random.Random(0)
    draws.getrandbits(32 * _DRAWN_BEFORE)
    train = []
    dev = []
    for code, path, names in codes:
        train.append(example(path[-1], [code]))
        for name in names:
            if times[name.lower()] > 1 or name.lower() in titles:
                continue
            draw = draws.random()
            if draw >= 0.5:
                train.append(example(name, [code]))
            elif draw >= 0.35:
                dev.append(example(name, [code]))
    texts = [label_text(code, " > ".join(path)) for code, path, _ in codes]
    return {"train.jsonl.xz": train, "dev.jsonl.xz": dev, "label_texts.jsonl.xz": texts}


def _codes(
    diagnosis: xml.etree.ElementTree.Element, above: tuple[str, ...]
) -> Iterator[tuple[str, tuple[str, ...], list[str]]]:
    """Yields code, titles from the topmost to its own, and included names; then those below."""
    path = (*above, diagnosis.findtext("desc", ""))
    names = [note.text or "" for note in diagnosis.iterfind("inclusionTerm/note")]
    yield diagnosis.findtext("name", ""), path, names
    for below in diagnosis.iterfind("diag"):
        yield from _codes(below, path)
