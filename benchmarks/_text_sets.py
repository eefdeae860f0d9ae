"""The sets of texts that presets are chosen and measured on, as lists of examples.

``examples(data, name)`` returns those of the training and of the test file. Three sets were made of
other data here, so that no setting of tfxc has been tuned on them: ``icd10cm_categories`` (a
diagnosis and the first three characters of its code), ``wordnet_roles`` (a WordNet entry and the
relations that it has; every tenth entry is a test) and ``eurlex_domains`` (a law and the topmost
EuroVoc concepts above its own). ``mixed`` are 200,000 rows of seven other sets with the 20,000
most frequent labels of all of them, and 5,000 more as a test.
"""

import collections
import csv
import json
import lzma
import random

FILES = {
    "banking77": ("banking77/train", "banking77/test"),
    "clinc150": ("clinc150/train", "clinc150/dev"),
    "cooking": ("cooking/train", "cooking/dev"),
    "sentiment": ("sentiment/train.csv", "sentiment/dev.csv"),
    "duee": ("duee/train.csv", "duee/test.csv"),
    "debtags": ("debian/debtags_train", "debian/debtags_dev"),
    "eurlex57k": ("eurlex57k/train", "eurlex57k/dev"),
    "genes": ("go/genes_train", "go/genes_dev"),
    "icd10cm_categories": ("icd10cm/train", "icd10cm/dev"),
    "wordnet_roles": ("wn18rr/train", "wn18rr/dev"),
    "eurlex_domains": ("eurlex57k/train", "eurlex57k/dev"),
    "debian_sources": ("debian/sources_train", "debian/sources_dev"),
    "go": ("go/train", "go/dev"),
    "icd10cm": ("icd10cm/train", "icd10cm/dev"),
    "mixed": (
        "go/train",
        "icd10cm/train",
        "revdict/train",
        "eurlex57k/train",
        "debian/sources_train",
        "cooking/train",
        "wn18rr/train",
    ),
}
#: The texts have no blanks between words.
CHARACTERS = ("sentiment", "duee")


def examples(data, name):
    """Two lists of ``{"text": ..., "labels": [...]}``: training and test."""
    parts = [_read(data, file) for file in FILES[name]]
    if name == "icd10cm_categories":
        for row in (row for rows in parts for row in rows):
            row["labels"] = sorted({label[:3] for label in row["labels"]})
    elif name == "mixed":
        parts = _mixed(parts)
    elif name == "wordnet_roles":
        parts = _roles([row for rows in parts for row in rows])
    elif name == "eurlex_domains":
        above = json.loads((data / "eurlex57k/label_names.json").read_text())
        for row in (row for rows in parts for row in rows):
            row["labels"] = sorted({top for label in row["labels"] for top in _tops(label, above)})
        parts = [[row for row in rows if row["labels"]] for rows in parts]
    return parts


def _read(data, file):
    if file.endswith(".csv"):
        with open(data / file, encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        return [{"text": row["sentence"], "labels": row["label"].split(",")} for row in rows]
    with lzma.open(data / f"{file}.jsonl.xz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _mixed(parts):
    rows = [
        {"text": row["text"], "labels": [f"{number}:{label}" for label in row["labels"]]}
        for number, part in enumerate(parts)
        for row in part
    ]
    counts = collections.Counter(label for row in rows for label in row["labels"])
    kept = {label for label, _ in counts.most_common(20_000)}
    for row in rows:
        row["labels"] = [label for label in row["labels"] if label in kept]
    rows = [row for row in rows if row["labels"]]
    random.Random(0).shuffle(rows)
    return rows[:200_000], rows[200_000:205_000]


def _roles(rows):
    roles = {}
    for row in rows:
        role, text = row["text"].split(" : ", 1)
        roles.setdefault(text, set()).add(role)
    entries = [{"text": text, "labels": sorted(found)} for text, found in sorted(roles.items())]
    return [row for place, row in enumerate(entries) if place % 10], entries[::10]


def _tops(label, above):
    parents = above.get(label, {}).get("parents") or []
    return {top for parent in parents for top in _tops(parent, above)} or {label}
