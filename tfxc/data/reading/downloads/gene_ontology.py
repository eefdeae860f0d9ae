"""Synonyms of the terms of the Gene Ontology, and the terms of human genes.

One synonym is held out of each term with several, three tenths of these for the dev split, the
rest for a test that is not written. A tenth of the genes is the dev split, another the test.
"""

import collections
import contextlib
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tfxc.data.reading.downloads.rows import Row, another_form, example, label_text, opened_in_deb


def terms_and_genes(files: Mapping[str, Path]) -> dict[str, list[Row]]:
    """Returns synonyms and texts of all terms, and the genes with their terms."""
    ontology, genes = sorted(files.values())
    draws = random.Random(0)  # the genes are drawn after the synonyms
    with _database(ontology, "GO.sqlite") as database:
        rows = _synonyms(database, draws)
    with _database(genes, "org.Hs.eg.sqlite") as database:
        return rows | _genes(database, draws)


@contextlib.contextmanager
def _database(path: Path, name: str) -> Iterator[sqlite3.Connection]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        with opened_in_deb(path, f"/{name}") as packed, open(file, "wb") as stream:
            shutil.copyfileobj(packed, stream)
        with contextlib.closing(sqlite3.connect(file)) as database:
            try:
                yield database
            except sqlite3.Error as error:
                raise another_form(path, str(error)) from error


def _synonyms(database: sqlite3.Connection, draws: random.Random) -> dict[str, list[Row]]:
    terms = {
        number: (label, name, definition)
        for number, label, name, definition in database.execute(
            "SELECT _id, go_id, term, definition FROM go_term"
        )
    }
    listed = [
        (terms[number][0], synonym)
        for number, synonym in database.execute(
            "SELECT _id, synonym FROM go_synonym WHERE NOT like_go_id ORDER BY rowid"
        )
    ]
    names = {name.lower() for _, name, _ in terms.values()}
    meant = collections.defaultdict(set)
    for label, synonym in listed:
        meant[synonym.lower()].add(label)
    of_term = collections.defaultdict(list)
    for label, synonym in dict.fromkeys(listed):
        if len(meant[synonym.lower()]) == 1 and synonym.lower() not in names:
            of_term[label].append(synonym)
    times = collections.Counter(listed)
    train = []
    dev = []
    for label, synonyms in of_term.items():
        if len(synonyms) > 1:
            draws.shuffle(synonyms)
            if draws.random() >= 0.7:
                dev.append(example(synonyms[0], [label]))
            synonyms = [s for s in synonyms[1:] if times[label, s] == 1]
        train += [example(synonym, [label]) for synonym in synonyms]
    texts = [
        label_text(label, f"{name}. {definition}")
        for label, name, definition in sorted(terms.values())
    ]
    return {"train.jsonl.xz": train, "dev.jsonl.xz": dev, "label_texts.jsonl.xz": texts}


def _genes(database: sqlite3.Connection, draws: random.Random) -> dict[str, list[Row]]:
    terms = _lists(database, "SELECT _id, go_id FROM go_bp UNION SELECT _id, go_id FROM go_mf "
                             "UNION SELECT _id, go_id FROM go_cc")  # fmt: skip
    aliases = _lists(database, "SELECT _id, alias_symbol FROM alias ORDER BY rowid")
    families = _lists(database, "SELECT _id, pfam_id FROM pfam ORDER BY rowid")
    rows = []
    query = "SELECT _id, symbol, gene_name FROM gene_info ORDER BY _id"
    for number, symbol, name in database.execute(query):
        if number in terms:
            text = f"{symbol}: {name}; {' '.join(aliases[number])}"
            if number in families:
                text += f" {' '.join(filter(None, families[number]))}"
            rows.append(example(text, sorted(terms[number])))
    draws.shuffle(rows)
    ends = [int(share * len(rows)) for share in (0.8, 0.9)]
    return {
        "genes_train.jsonl.xz": rows[: ends[0]],
        "genes_dev.jsonl.xz": rows[ends[0] : ends[1]],
    }


def _lists(database: sqlite3.Connection, query: str) -> dict[int, dict[str, None]]:
    """Returns the different values of each number, in order."""
    lists: dict[int, dict[str, None]] = collections.defaultdict(dict)
    for number, value in database.execute(query):
        lists[number][value] = None
    return lists
