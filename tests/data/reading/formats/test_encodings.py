"""Texts in other encodings than UTF-8, and compressed files whatever they are called."""

import bz2
import gzip
import json
import lzma
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import scipy.sparse

from tests.contracts.formats import concatenated
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.settings import DataSettings
from tfxc.data.reading.formats import open_like, open_reader
from tfxc.data.reading.inspection.contents import inspect
from tfxc.data.reading.label_texts import read_label_texts
from tfxc.data.reading.parsing.archives import tar_members
from tfxc.data.reading.parsing.lines import Lines
from tfxc.data.reading.typed_examples import chunk_of_lines, chunks_of_pipe

EURO = "5 € \u2013 “gut”"  # signs that cp1252 has and Latin-1 has not
TABLE = f"text,label\n{EURO},Käse\nnicht gut,Öl\n" + "gut,Käse\nschlecht,Öl\n" * 8


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (TABLE.encode("cp1252"), {"encoding": "cp1252"}),
        (TABLE.encode("gb18030"), {"encoding": "gb18030"}),
        (TABLE.encode("utf-8-sig"), {"encoding": "utf-8-sig"}),
        (TABLE.encode("utf-8-sig"), {"encoding": "cp1252"}),  # the mark comes first
        (TABLE.encode("utf-16-be"), {"encoding": "UTF-16BE"}),
        (TABLE.encode("utf-16"), {}),
        (TABLE.encode("utf-32"), {}),
        (gzip.compress(TABLE.replace("\n", "\r\n").encode("utf-16")), {}),
        (bz2.compress(TABLE.encode("cp1252")), {"encoding": "windows-1252"}),
    ],
)
def test_a_table_in_another_encoding(tmp_path, content, options):
    (tmp_path / "a.csv").write_bytes(content)
    chunk = concatenated(open_reader(tmp_path / "a.csv", **options).chunks())
    assert chunk.texts[:2] == [EURO, "nicht gut"] and chunk.labels[:2] == [["Käse"], ["Öl"]]
    found = inspect(str(tmp_path / "a.csv"), given=options)
    assert found.examples == 18 and found.options["text_field"] == "text"


@pytest.mark.parametrize(
    ("name", "text", "reader"),
    [
        ("a.jsonl", '{"text": "é “x”", "labels": ["Öl"]}', None),
        ("a.txt", "__label__Öl é “x”", None),
        ("b.txt", "Öl\té “x”", None),
        ("c.txt", "Öl\té “x”\r\n", "libmultilabel"),
    ],
)
def test_other_readers_of_texts(tmp_path, name, text, reader):
    (tmp_path / name).write_bytes(text.encode("cp1252"))
    chunk = concatenated(open_reader(tmp_path / name, reader, encoding="cp1252").chunks())
    assert (chunk.texts, chunk.labels) == (["é “x”"], [["Öl"]])


def test_texts_of_pecos(tmp_path):
    scipy.sparse.save_npz(tmp_path / "Y.trn.npz", scipy.sparse.csr_matrix(np.eye(2)))
    for name, lines in (("X.trn.txt", "é “x”\nzwei\n"), ("Y.txt", "Öl\nKäse\n")):
        (tmp_path / name).write_bytes(lines.encode("cp1252"))
    chunk = concatenated(open_reader(tmp_path, encoding="cp1252").chunks())
    assert chunk.texts == ["é “x”", "zwei"] and list(chunk.labels) == [["Öl"], ["Käse"]]
    with pytest.raises(DataError, match=r"Y\.txt:1: .*Öl. in cp1252.*reader-option encoding"):
        list(open_reader(tmp_path).chunks())


@pytest.mark.parametrize(
    ("line", "encoding", "readings"),
    [
        ("It\u2019s 5 €", "cp1252", "'It\u2019s 5 €' in cp1252"),
        ("Привет", "cp1251", "'Привет' in cp1251"),
        ("我们去中国", "gb18030", "'我们去中国' in gb18030"),
        ("カタカナ", "shift_jis", "'カタカナ' in shift_jis"),
    ],
)
def test_the_message_shows_what_the_text_may_be(tmp_path, line, encoding, readings):
    """It recommends no encoding: which reading is right a person sees."""
    (tmp_path / "a.txt").write_bytes(b"one\n" + line.encode(encoding) + b"\n")
    lines = Lines(tmp_path / "a.txt", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        list(lines.texts())
    text = str(caught.value)
    assert text.startswith(f"{tmp_path / 'a.txt'}:2: the byte 0x") and readings in text
    assert "--reader-option encoding=NAME" in text and "--encoding NAME" in text
    assert "LATIN1" not in text.upper()
    with pytest.raises(DataError, match=r"Convert the file with iconv -f NAME") as caught:
        list(Lines(tmp_path / "a.txt").texts())
    assert "--reader-option" not in str(caught.value), "there is none for this file"


def test_bytes_that_are_not_in_the_named_encoding(tmp_path):
    (tmp_path / "a.txt").write_bytes("甲\n乙\n\n丙丁".encode("gb18030") + b"\xff\n")
    with pytest.raises(DataError, match=r"a.txt:4: the byte 0xff behind '丙丁' is not gb18030\. "):
        list(Lines(tmp_path / "a.txt", encoding="gb18030").texts())
    for name in ("utf-16", "utf-32"):
        with pytest.raises(
            DataError, match=f"a.txt: the file is not {name}, or begins with no byte"
        ):
            list(Lines(tmp_path / "a.txt", encoding=name).texts())
    for name in ("cp-1252x", "base64", "idna", "a\0b"):
        with pytest.raises(ConfigError, match="encoding: unknown encoding"):
            open_reader(tmp_path / "a.txt", "libmultilabel", encoding=name)


def test_a_file_in_utf_8_is_not_read_as_another_one(tmp_path):
    (tmp_path / "a.txt").write_text("Öl für Käse, größer\n" * 3, encoding="utf-8")
    reader = open_reader(tmp_path / "a.txt", "libmultilabel", encoding="cp1252")
    with pytest.raises(DataError, match=r"in UTF-8, not in cp1252\. .*-option encoding=utf-8\)"):
        list(reader.chunks())


@pytest.mark.parametrize("usual", ["utf-8", "cp1252", "cp1250", "gb18030"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "cp1252"])
def test_the_new_file_of_a_run_may_be_in_another_encoding(tmp_path, usual, encoding, capsys):
    """That of the training file counts where it can read the text."""
    text = "Öl für Käse, größer – 5 €"  # noqa: RUF001
    (tmp_path / "a.txt").write_bytes(f"{text}\n".encode(encoding) * 3)
    data = DataSettings(name="a", train="train.txt", reader_options={"encoding": usual})
    chunk = concatenated(open_like(tmp_path / "a.txt", data, "text").chunks())
    assert chunk.texts[0] == text
    said = f"the text is read as {encoding}" in capsys.readouterr().err
    is_other = encoding == "cp1252" and usual in ("utf-8", "gb18030")
    assert said == (encoding == "utf-16-le" or is_other)


LANGUAGES = {
    "German": ("cp1252", "Die Rechnung über 30 € fehlt, größere Öfen. Können Sie prüfen?"),
    "French": ("cp1252", "La facture n’a pas été reçue, où est passé le garçon ? Ça coûte 5 €."),  # noqa: RUF001
    "Portuguese": ("cp1252", "Não recebi a fatura. Onde está a minha encomenda? Às vezes."),
    "Swedish": ("cp1252", "Jag har inte fått mitt paket ännu, var är det? Åh nej."),
    "English": ("cp1252", "The invoice says €30 but I don’t know why; it’s late."),  # noqa: RUF001
    "Polish": ("cp1250", "Gdzie jest moja przesyłka? Proszę o zwrot pieniędzy, żółta książka."),
    "Czech": ("cp1250", "Kde je můj balík? Prosím o vrácení peněz, žlutá kniha."),
    "Turkish": ("cp1254", "Paketim henüz gelmedi, ne zaman gelecek? Işık şöyle."),  # noqa: RUF001
    "Russian": ("cp1251", "Моя посылка ещё не пришла. Верните деньги, счёт неверный."),
    "Greek": ("cp1253", "Πού είναι το δέμα μου; Θέλω επιστροφή χρημάτων."),
    "Chinese": ("gb18030", "我的包裹还没有到，请问什么时候发货呢？请帮我退款，发票金额不对。"),  # noqa: RUF001
    "Chinese of Taiwan": (
        "big5",
        "我的包裹還沒有到，請問什麼時候發貨呢？請幫我退款，發票金額不對。",  # noqa: RUF001
    ),
    "Japanese": ("cp932", "荷物がまだ届いていません。いつ届きますか。請求書の金額が違います。"),
    "Japanese of Unix": ("euc_jp", "荷物がまだ届いていません。いつ届きますか。金額が違います。"),
    "Korean": ("cp949", "소포가 아직 도착하지 않았습니다. 언제 도착하나요? 환불해 주세요."),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_encoding_of_a_table_is_detected_and_said(tmp_path, language, capsys):
    """As Excel saves CSV where Windows has that language."""
    encoding, text = LANGUAGES[language]
    table = "text,label\r\n" + "".join(f'"{text} {n}",{"ab"[n % 2]}\r\n' for n in range(20))
    for number, content in enumerate((table.encode(encoding), table.encode("utf-16-le"))):
        path = tmp_path / f"{number}.csv"
        path.write_bytes(content)
        found = inspect(str(path))
        assert found.options["encoding"] == (encoding, "utf-16-le")[number]
        assert concatenated(open_reader(path, **found.options).chunks()).texts[0] == f"{text} 0"
        line = f"{path}: the text is read as {found.options['encoding']}, e.g. "
        assert line in capsys.readouterr().err
    path.write_text(table, encoding="utf-8")
    assert "encoding" not in inspect(str(path)).options


def test_what_the_user_says_of_the_encoding_counts(tmp_path, capsys):
    (tmp_path / "a.csv").write_bytes(("text,label\n" + "můj,x\nmůj,y\n" * 5).encode("cp1250"))
    found = inspect(str(tmp_path / "a.csv"), given={"encoding": "cp1252"})
    assert found.options["encoding"] == "cp1252" and "read as" not in capsys.readouterr().err


def test_encodings_without_the_package_that_detects_them(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "charset_normalizer", None)
    (tmp_path / "a.csv").write_bytes(TABLE.encode("cp1252"))
    with pytest.raises(DataError, match=r"Name the right one with --encoding NAME"):
        inspect(str(tmp_path / "a.csv"))


@pytest.mark.parametrize("escaped", [False, True])
def test_the_trace_of_a_wrong_conversion_is_said_once(tmp_path, capsys, escaped):
    path = tmp_path / "a.jsonl"
    text = EURO.encode("cp1252").decode("latin-1")
    line = json.dumps({"text": text, "labels": ["x"]}, ensure_ascii=escaped)
    path.write_text('{"text": "é", "labels": ["y"]}\n' + f"{line}\n" * 3, encoding="utf-8")
    for size in (1, 4):
        assert concatenated(open_reader(path).chunks(size)).texts[1] == text
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{path}: example 2 has a control character" in said
    assert "iconv -f CP1252 -t UTF-8" in said


def test_zero_bytes(tmp_path):
    (tmp_path / "a.csv").write_bytes(TABLE.encode("utf-16-le"))
    with pytest.raises(
        DataError, match=r"a.csv:1: the line contains zero bytes.*utf-16-le or utf-16"
    ):
        list(open_reader(tmp_path / "a.csv").chunks())


@pytest.mark.parametrize("name", ["A.CSV.GZ", "b.csv.Xz", "c.csv", "d.csv.bz2", "e.csv.gz"])
@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress, bytes])
def test_compression_is_told_by_the_content(tmp_path, name, pack):
    (tmp_path / name).write_bytes(pack(TABLE.encode()))
    reader = open_reader(tmp_path / name)
    assert len(concatenated(reader.chunks())) == 18
    assert reader.bytes_read == reader.total_bytes


def test_a_compressed_file_is_read_as_the_plain_one_in_training(tmp_path):
    (tmp_path / "NEW.CSV.BZ2").write_bytes(bz2.compress(b"__label__x one text\n"))
    data = DataSettings(name="a", train="train.csv", reader="fasttext_lines")
    chunk = concatenated(open_like(tmp_path / "NEW.CSV.BZ2", data, "text").chunks())
    assert chunk.texts == ["one text"]


def test_what_cannot_be_unpacked_is_called_what_it_is(tmp_path):
    (tmp_path / "a.csv.7z").write_bytes(b"7z\xbc\xaf\x27\x1c...")
    with pytest.raises(DataError, match=r"a 7-Zip archive\. Unpack it with 7z x"):
        open_reader(tmp_path / "a.csv.7z")
    with zipfile.ZipFile(tmp_path / "book.csv", "w") as archive:
        archive.writestr("sheet.xml", "<xml/>")
    with pytest.raises(
        DataError, match=r"a ZIP archive, as workbooks of Excel are.* ending \.xlsx"
    ):
        list(open_reader(tmp_path / "book.csv").chunks())
    (tmp_path / "book.xls").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0")
    with pytest.raises(
        DataError, match=r"the file is an old workbook of Excel\. .*Save it as .*CSV UTF-8"
    ):
        open_reader(tmp_path / "book.xls")


def test_zstandard(tmp_path, monkeypatch):
    """Of a Python that cannot read it, by pyarrow."""
    pyarrow = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    path = tmp_path / "a.csv.zst"
    with pyarrow.CompressedOutputStream(str(path), "zstd") as stream:
        stream.write(TABLE.encode("cp1252"))
    found = inspect(str(path))
    assert (found.format, found.examples, found.options["encoding"]) == ("delimited", 18, "cp1252")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="truncated or damaged"):
        concatenated(open_reader(path, encoding="cp1252").chunks())
    if sys.version_info < (3, 14):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(ConfigError, match=r"pip install 'tfxc\[parquet\]', or decompress the"):
            concatenated(open_reader(path).chunks())


def test_archives_of_any_compression(tmp_path):
    (tmp_path / "1.cls").write_text("3")
    for name, mode in (("a.TAR.GZ", "w:gz"), ("a.tar.bz2", "w:bz2"), ("b.tar", "w:xz")):
        with tarfile.open(tmp_path / name, mode) as archive:
            archive.add(tmp_path / "1.cls", "1.cls")
        assert [(member.name, read()) for member, read in tar_members(tmp_path / name)] == [
            ("1.cls", b"3")
        ]


def test_texts_of_labels(tmp_path):
    path = tmp_path / "labels.jsonl.BZ2"
    line = '{"label": "oil", "text": "Öl"}\n'
    path.write_bytes(bz2.compress(line.encode()))
    assert read_label_texts(path) == {"oil": "Öl"}
    path.write_bytes(line.encode("utf-16"))
    assert read_label_texts(path) == {"oil": "Öl"}
    path.write_bytes(line.encode("cp1252"))
    with pytest.raises(DataError, match=r"BZ2:1: .*Öl.* in cp1252.*\. Convert the file with icon"):
        read_label_texts(path)


def test_what_is_piped(tmp_path):
    with pytest.raises(DataError, match=r"standard input:1: the byte 0x92.*'It.s' in cp1252"):
        chunk_of_lines([b"It\x92s"], "text")
    with pytest.raises(DataError, match=r"input:1: this is compressed by gzip\. Deco"):
        chunk_of_lines([gzip.compress(b"text")], "text")
    (tmp_path / "a.txt").write_text("\ufeffone\ntwo\n", encoding="utf-8")
    with open(tmp_path / "a.txt", "rb") as stream:
        (chunk,) = chunks_of_pipe(stream.fileno(), "text", None, 10)
    assert chunk.texts == ["one", "two"]
