"""Catalogues that are built of packages of Debian and PyPI, here of small ones made up."""

import gzip
import io
import json
import lzma
import sqlite3
import tarfile
import zipfile

import pytest

from tests.data.reading.downloads.test_downloads import MADE
from tests.data.reading.formats import data_folder
from tfxc.core.errors import DataError
from tfxc.data.reading.downloads.debian import packages
from tfxc.data.reading.downloads.gene_ontology import terms_and_genes
from tfxc.data.reading.downloads.icd10cm import diagnoses
from tfxc.data.reading.downloads.reverse_dictionary import definitions
from tfxc.data.reading.downloads.wordnet_rows import dev_rows


def deb(path, **files):
    """A Debian package: an archive by ``ar`` whose last member is a tar archive of the files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"./usr/share/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    parts = b"!<arch>\n"
    members = {"debian-binary": b"2.0", "control.tar.xz": b"", "data.tar.xz": packed.getvalue()}
    for name, content in members.items():
        parts += f"{name:16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content
        parts += b"\n" * (len(content) % 2)
    path.write_bytes(parts)
    return path


def given(name):
    """Rows of the set as it was drawn first."""
    with lzma.open(data_folder(name.partition("/")[0]).parent / f"{name}.jsonl.xz", "rt") as lines:
        return [json.loads(line) for line in lines]


def test_a_package_needs_the_sources_of_what_it_depends_on(tmp_path):
    paragraphs = [
        "Package: app\nSource: application (1.2)\nDescription: An app\nDescription-md5: 1\n"
        "Depends: libx1 (>= 2), libx-data | nothing, nowhere, app-data, perl:any\n"
        "Tag: role::program, use::viewing,\n works-with::image",
        "Package: app-data\nSource: application\nDescription: Data\nDescription-md5: 2",
        *(
            f"Package: {name}\nSource: {source}\nDescription: {name}\nDescription-md5: 3"
            for name, source in (("libx-data", "x"), ("libx1-dev", "x"), ("libx1", "x"))
        ),
        "Package: perl\nDescription: A language\nDescription-md5: 4",
        *(f"Package: p{n}\nDescription: p\nDescription-md5: 5\nDepends: perl" for n in range(80)),
        *(f"Package: q{n}\nSource: p{n}\nDescription: q\nDescription-md5: 5\nTag: a"
          for n in range(80)),
    ]  # fmt: skip
    translated = (
        "Package: app\nDescription-md5: 1\nDescription-en: An app\n It shows  images.\n .\n Soon."
    )
    files = {"Packages.xz": "\n\n".join(paragraphs), "Translation-en.xz": translated}
    for name, text in files.items():
        (tmp_path / name).write_bytes(lzma.compress(text.encode()))
    rows = packages({name: tmp_path / name for name in files})
    assert {*rows} == MADE["debian"]
    splits = [rows[f"sources_{split}.jsonl.xz"] for split in ("train", "dev")]
    app = {"text": "app: An app It shows images. Soon.", "labels": ["x", "perl"]}
    assert app in splits[0] + splits[1]
    assert [len(split) for split in splits] == [77, 4], "a twentieth of 83 sources"
    facets = rows["debtags_train.jsonl.xz"] + rows["debtags_dev.jsonl.xz"]
    assert ["role::program", "use::viewing", "works-with::image"] in [r["labels"] for r in facets]
    own = {row["text"].partition(":")[0] for row in splits[1]}
    siblings = {row["text"].partition(":")[0] for row in rows["debtags_dev.jsonl.xz"]}
    assert siblings == {name.replace("p", "q") for name in own if name != "app"}
    assert rows["sources_label_texts.jsonl.xz"] == [
        {"label": "perl", "text": "perl: A language"},
        {"label": "x", "text": "libx1: libx1"},
    ]


def test_diagnoses_are_drawn_as_the_set_was(tmp_path):
    """The first names of the real table, and where the set has them."""
    names = {
        "A00.0": ["Classical cholera"],
        "A00.1": ["Cholera eltor"],
        "A01.0": ["Infection due to Salmonella typhi", "cholera"],
        "A01.02": ["Typhoid endocarditis", "Typhoid myocarditis"],
        "A01.4": ["Infection due to Salmonella paratyphi NOS", "Named twice"],
        "A02.0": ["Salmonellosis", "named twice"],
        "A02.25": ["Salmonella tubulo-interstitial nephropathy"],
    }
    inner = "".join(
        f"<diag><name>{code}</name><desc>Title {code}</desc><inclusionTerm>"
        f"{''.join(f'<note>{name}</note>' for name in of_code)}</inclusionTerm></diag>"
        for code, of_code in names.items()
    )
    table = f"<x><chapter><section><diag><name>A</name><desc>Cholera</desc>{inner}</diag>"
    path = tmp_path / "codes.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "simple_icd_10_cm/data/icd10c-tabular-April-1-2026.xml",
            f"{table}</section></chapter></x>",
        )
    rows = diagnoses({path.name: path})
    assert {*rows} == MADE["icd10cm"]
    for split in ("train", "dev"):
        texts = {name for of_code in names.values() for name in of_code}
        expected = [row for row in given(f"icd10cm/{split}") if row["text"] in texts]
        assert [r for r in rows[f"{split}.jsonl.xz"] if r["text"] in texts] == expected
    assert rows["train.jsonl.xz"][0] == {"text": "Cholera", "labels": ["A"]}
    last = {"label": "A02.25", "text": "Cholera > Title A02.25"}
    assert rows["label_texts.jsonl.xz"][-1] == last


def database(*statements):
    with sqlite3.connect(":memory:") as connection:
        for statement, rows in statements:
            connection.execute(statement)
            table = statement.split()[2].partition("(")[0]
            for row in rows:
                connection.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)
        connection.commit()
        return connection.serialize()


def test_synonyms_are_drawn_as_the_set_was(tmp_path):
    """The first terms of the real table, and the synonyms of them that the set has."""
    label = "GO:0000006"
    synonyms = [
        "high affinity zinc uptake transmembrane transporter activity",
        "high-affinity zinc uptake transmembrane transporter activity",
    ]
    ontology = database(
        ("CREATE TABLE go_term(_id, go_id, term, definition)",
         [(1, "GO:0000001", "first", "A."), (2, label, "zinc", "B."), (3, "GO:9", "c", "C.")]),
        ("CREATE TABLE go_synonym(_id, synonym, secondary, like_go_id)",
         [(1, "only one", None, 0), (1, "GO:5", None, 1), (1, "Shared", None, 0),
          (3, "shared", None, 0), (3, "ZINC", None, 0), *((2, s, None, 0) for s in synonyms)]),
    )  # fmt: skip
    genes = database(
        ("CREATE TABLE gene_info(_id, gene_name, symbol)",
         [(n, f"gene {n}", f"G{n}") for n in range(20)]),
        ("CREATE TABLE alias(_id, alias_symbol)", [(n, f"A{n}") for n in range(20)]),
        ("CREATE TABLE pfam(_id, ipi_id, pfam_id)",
         [(3, "I", "PF1"), (3, "J", "PF1"), (4, "I", None)]),
        ("CREATE TABLE go_bp(_id, go_id)", [(n, "GO:2") for n in range(19)]),
        ("CREATE TABLE go_mf(_id, go_id)", [(3, "GO:1")]),
        ("CREATE TABLE go_cc(_id, go_id)", [(3, "GO:2"), (19, "GO:3")]),
    )  # fmt: skip
    files = {
        "go.deb": deb(tmp_path / "go.deb", **{"GO.db/GO.sqlite": ontology}),
        "hs.deb": deb(tmp_path / "hs.deb", **{"org/org.Hs.eg.sqlite": genes}),
    }
    rows = terms_and_genes(files)
    assert {*rows} == MADE["go"]
    for split in ("train", "dev"):
        found = [row for row in rows[f"{split}.jsonl.xz"] if row["labels"] == [label]]
        assert found == [r for r in given(f"go/{split}") if r["text"] in synonyms], split
    first = {"text": "only one", "labels": ["GO:0000001"]}
    assert first in rows["train.jsonl.xz"] and len(rows["train.jsonl.xz"]) == 2
    assert rows["label_texts.jsonl.xz"][1] == {"label": label, "text": "zinc. B."}
    drawn = [rows[f"genes_{split}.jsonl.xz"] for split in ("train", "dev")]
    assert [len(split) for split in drawn] == [16, 2]
    every = {row["text"]: row["labels"] for split in drawn for row in split}
    expected = {"G3: gene 3; A3 PF1": ["GO:1", "GO:2"], "G4: gene 4; A4 ": ["GO:2"],
                "G19: gene 19; A19": ["GO:3"]}  # fmt: skip
    assert len(every) == 18 and {text: every[text] for text in expected} == expected


ENTRIES = r"""Abandon \A*ban"don\ ([.a]*b[a^]n"d[u^]n), v. t. [imp. & p. p.
   {Abandoned} (-d[u^]nd).]
   1. To cast or drive out; to expel.
      [Obs.]
      [1913 Webster]

            That he might . . . abandon them.    --Udall.
      [1913 Webster]

   2. To give up; as, to abandon a hope; he abandoned it.
      [1913 Webster]

   3. Of no use here. [WordNet 1.5]

Bird cage \Bird" cage"\, or Birdcage \Bird"cage`\, n.
   A cage for confining birds.
   [1913 Webster]

Too \Too\ long.
   One.
"""


def test_definitions_are_without_their_word(tmp_path):
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

    def number(value):
        return (digits[value // 64] if value > 63 else "") + digits[value % 64]

    starts = [ENTRIES.index(head) for head in ("Abandon \\", "Bird cage \\", "Too \\")]
    sizes = [end - start for start, end in zip(starts, [*starts[1:], len(ENTRIES)], strict=True)]
    heads = [("Abandon", 0), ("Bird cage", 1), ("Birdcage", 1), ("birds", 1), ("Too", 2)]
    index = "".join(f"{h}\t{number(starts[n])}\t{number(sizes[n])}\n" for h, n in heads)
    synset = "{:08} 04 n {:02x} {} 000 | {}\n"
    lines = "  1 a licence\n" + "".join(
        synset.format(n, 2, "Abandon 0 other_word 0", f"way {n} to abandon it; \"he left\"")
        for n in range(13)
    ) + synset.format(13, 1, "unknown 0", "nobody knows it") + synset.format(
        14, 2, "birdcage(p) 0 abandon 1", "birdcages abandoned")  # fmt: skip
    files = {
        "gcide": {"gcide.dict.dz": gzip.compress(ENTRIES.encode()), "gcide.index": index.encode()},
        "wordnet": {f"data.{part}": lines.encode() if part == "noun" else b""
                    for part in ("noun", "verb", "adj", "adv")},
    }  # fmt: skip
    rows = definitions({name: deb(tmp_path / name, **parts) for name, parts in files.items()})
    assert {*rows} == MADE["revdict"]
    assert rows["train.jsonl.xz"] == [
        {"text": "1. To cast or drive out; to expel.", "labels": ["abandon"]},
        {"text": "To give up; as, to _ a hope; he _ it.", "labels": ["abandon"]},
        {"text": "A cage for confining birds.", "labels": ["birdcage"]},
    ]
    assert dev_rows(14) == [13] and len(dev_rows(100_000)) == 5_000
    assert rows["dev.jsonl.xz"] == [{"text": "_ _", "labels": ["abandon", "birdcage"]}]


def test_a_package_of_another_form_is_refused(tmp_path):
    other = deb(tmp_path / "a.deb", **{"readme": b"hello"})
    with pytest.raises(DataError, match=r"no /GO.sqlite.*Remove the file"):
        terms_and_genes({"a.deb": other, "b.deb": other})
    other.write_bytes(b"<html>not found</html>" * 9)
    with pytest.raises(DataError, match="no package of Debian"):
        terms_and_genes({"a.deb": other, "b.deb": other})
    other.write_bytes(b"!<arch>\n")
    with pytest.raises(DataError, match=r"no data\.tar"):
        terms_and_genes({"a.deb": other, "b.deb": other})
