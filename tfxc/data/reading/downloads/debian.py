"""What can be learned of Debian's list of packages: what a package needs, and its facets.

The dev split are the packages of a twentieth of the source packages, so that no package of it has a
sibling in the training split.
"""

import lzma
import random
from collections.abc import Iterator, Mapping
from pathlib import Path

from tfxc.core.storage.reading import archive_errors
from tfxc.data.reading.downloads.rows import Row, example, joined_words, label_text


def packages(files: Mapping[str, Path]) -> dict[str, list[Row]]:
    """Returns the source packages that each package needs, texts of these, and facets."""
    by_name = {fields["Package"]: fields for fields in _stanzas(files["Packages.xz"])}
    translated = {
        fields["Description-md5"]: fields["Description-en"]
        for fields in _stanzas(files["Translation-en.xz"])
    }
    texts = {name: _text(fields, translated) for name, fields in by_name.items()}
    sources = {
        name: fields.get("Source", name).partition(" ")[0] for name, fields in by_name.items()
    }
    needed = {name: _needed(fields, sources) for name, fields in by_name.items()}
    facets = {name: _listed(fields.get("Tag", "")) for name, fields in by_name.items()}
    every = sorted(set(sources.values()))
    random.Random(0).shuffle(every)
    held_out = set(every[: len(every) // 20])
    splits = {
        f"{task}_{split}.jsonl.xz": [
            example(texts[name], labels[name])
            for name in sorted(by_name)
            if labels[name] and (sources[name] in held_out) == (split == "dev")
        ]
        for task, labels in (("sources", needed), ("debtags", facets))
        for split in ("train", "dev")
    }
    # The shortest name is mostly that of the library itself, without -dev and -doc.
    main_package: dict[str, str] = {}
    for name in sorted(by_name, key=len):
        main_package.setdefault(sources[name], name)
    used = sorted({source for row in needed.values() for source in row})
    label_texts = [label_text(source, texts[main_package[source]]) for source in used]
    return splits | {"sources_label_texts.jsonl.xz": label_texts}


def _stanzas(path: Path) -> Iterator[dict[str, str]]:
    """Yields the fields of each paragraph; a value of several lines keeps their ends."""
    with archive_errors(path), lzma.open(path, "rt", encoding="utf-8") as stream:
        paragraphs = stream.read().split("\n\n")
    for paragraph in filter(None, map(str.strip, paragraphs)):
        lines = paragraph.replace("\n ", "\0 ").split("\n")
        pairs = (line.replace("\0", "\n").partition(":") for line in lines)
        yield {name: value.strip() for name, _, value in pairs}


def _text(fields: Mapping[str, str], translated: Mapping[str, str]) -> str:
    """Returns name, title and description; lines of a dot alone part its paragraphs."""
    description = translated.get(fields["Description-md5"], fields["Description"])
    lines = [line for line in description.split("\n") if line.strip() != "."]
    return joined_words(f"{fields['Package']}: {' '.join(lines)}")


def _needed(fields: Mapping[str, str], sources: Mapping[str, str]) -> list[str]:
    """Returns the sources of what a package depends on, of alternatives the first; not its own."""
    firsts = (
        clause.partition("|")[0].partition("(")[0].strip().partition(":")[0]
        for clause in _listed(fields.get("Depends", ""))
    )
    found = dict.fromkeys(sources[name] for name in firsts if name in sources)
    found.pop(sources[fields["Package"]], None)
    return list(found)


def _listed(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]
