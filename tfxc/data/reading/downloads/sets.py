"""The sets that can be downloaded: where they are, whose they are, how configs expect them."""

import csv
import dataclasses
import io
import json
import lzma
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from tfxc.core.escaping import json_text
from tfxc.core.storage.files import atomic_file
from tfxc.core.storage.reading import archive_errors
from tfxc.data.reading.downloads.debian import packages
from tfxc.data.reading.downloads.download import download
from tfxc.data.reading.downloads.gene_ontology import terms_and_genes
from tfxc.data.reading.downloads.icd10cm import diagnoses
from tfxc.data.reading.downloads.reverse_dictionary import definitions
from tfxc.data.reading.downloads.rows import Row, another_form, example

_CLINC = "https://raw.githubusercontent.com/clinc/oos-eval/master/data/data_full.json"
_BANKING = (
    "https://raw.githubusercontent.com/PolyAI-LDN/task-specific-datasets/master/banking_data/"
)
_DEBIAN = "https://deb.debian.org/debian/"
_CIFAR = "https://www.cs.toronto.edu/~kriz/"
_ICD = (
    "https://files.pythonhosted.org/packages/64/a5/"
    "588ca7abe3afff6f7374604e36a230819a68f5a6546b0037322f41f1fd54/"
)
_CHINESE = (
    "https://raw.githubusercontent.com/stanleylsx/text_classifier_torch/"
    "b12e308e5f9c3e9bfe00ff3c12b94d42834db5c6/datasets/"
)


@dataclasses.dataclass(frozen=True)
class Download:
    """A file of a set.

    Attributes:
        url: where it is.
        sha256: its checksum, or None where it is not known.
        path: where it is kept in the data folder, if it is kept as it is; None = by its own name.
    """

    url: str
    sha256: str | None = None
    path: str | None = None

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.url.rpartition("/")[2]


@dataclasses.dataclass(frozen=True)
class PublicSet:
    """A set of data that others publish.

    Attributes:
        title: its name and its authors.
        licence: under which it may be used.
        files: what is downloaded.
        convert: function of {name: downloaded file} to {file to write: its rows}; None keeps
            the files as they are.
    """

    title: str
    licence: str
    files: tuple[Download, ...]
    convert: Callable[[Mapping[str, Path]], Mapping[str, Iterable[Row]]] | None = None


def fetch(name: str, folder: str | Path) -> list[Path]:
    """Downloads a set, and writes it as the configs expect it; what is there already stays.

    Args:
        name: one of ``SETS``.
        folder: what ``${TFXC_DATA}`` stands for.

    Returns:
        The files that configs read.

    Raises:
        DataError: as ``download``; or a file is not as its authors describe it.
        MachineError: as ``download``.
    """
    public = SETS[name]
    folder = Path(folder)
    if public.convert is None:
        paths = [folder / (file.path or file.name) for file in public.files]
        for file, path in zip(public.files, paths, strict=True):
            download(file.url, path, file.sha256)
        return paths
    # Downloads stay hidden: a reader of the folder would take them for its own.
    originals = folder / name / ".original"
    downloaded = {file.name: originals / file.name for file in public.files}
    for file in public.files:
        download(file.url, downloaded[file.name], file.sha256)
    written = []
    for target, rows in public.convert(downloaded).items():
        path = folder / name / target
        if not path.exists():
            _write(path, rows)
        written.append(path)
    return written


def _write(path: Path, rows: Iterable[Row]) -> None:
    """Writes ``.jsonl.xz``; the same rows give the same bytes."""
    with atomic_file(path, "wb") as raw, lzma.open(raw, "wb") as stream:
        for row in rows:
            stream.write(json_text(row).encode() + b"\n")


def _clinc(files: Mapping[str, Path]) -> dict[str, Iterable[Row]]:
    """Returns ``{"train": [[text, intent], ...], "val": ..., ...}``; the test set is left where it
    is.
    """
    path = files["data_full.json"]
    try:
        splits = json.loads(path.read_text("utf-8"))
        return {
            target: [example(text, [label]) for text, label in splits[split]]
            for split, target in (("train", "train.jsonl.xz"), ("val", "dev.jsonl.xz"))
        }
    except (ValueError, KeyError, TypeError) as error:
        raise another_form(path, f"{type(error).__name__} {error}") from error


def _banking(files: Mapping[str, Path]) -> dict[str, Iterable[Row]]:
    return {f"{split}.jsonl.xz": _rows(files[f"{split}.csv"]) for split in ("train", "test")}


def _rows(path: Path) -> Iterator[Row]:
    with open(path, encoding="utf-8", newline="") as stream:
        try:
            for row in csv.DictReader(stream):
                yield example(row["text"].strip(), [row["category"]])
        except (KeyError, AttributeError, csv.Error) as error:
            raise another_form(path, f"{type(error).__name__} {error}") from error


def _cooking(files: Mapping[str, Path]) -> dict[str, Iterable[Row]]:
    """Returns fastText's lines, cut as in its tutorial: the first 12,404, and the last 3,000."""
    path = files["cooking.stackexchange.tar.gz"]
    with archive_errors(path), tarfile.open(path) as archive:
        name = "cooking.stackexchange.txt"
        members = (m for m in archive if m.isfile() and Path(m.name).name == name)
        member = next(members, None)
        if member is None:
            raise another_form(path, f"no {name}")
        content = archive.extractfile(member)
        assert content is not None, "a file"
        lines = io.TextIOWrapper(content, "utf-8").read().splitlines()
    examples = []
    for line in lines:
        words = line.split(" ")
        labels = [word.removeprefix("__label__") for word in words if word.startswith("__label__")]
        text = " ".join(word for word in words if not word.startswith("__label__"))
        examples.append(example(text, list(dict.fromkeys(labels))))
    return {"train.jsonl.xz": examples[:12404], "dev.jsonl.xz": examples[-3000:]}


SETS = {
    "banking77": PublicSet(
        "BANKING77 (Casanueva et al. 2020)", "CC BY 4.0",
        (
            Download(f"{_BANKING}train.csv",
                     "b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b"),
            Download(f"{_BANKING}test.csv",
                     "d12d6e3bc4c3103966ae786dc435913c0c563dfa328f5a3646d0e62cfeeb474d"),
        ),
        _banking,
    ),
    "cifar10": PublicSet(
        "CIFAR-10 (Krizhevsky 2009)", "none stated; cite the technical report",
        (Download(f"{_CIFAR}cifar-10-python.tar.gz",
                  "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"),),
    ),
    "cifar100": PublicSet(
        "CIFAR-100 (Krizhevsky 2009)", "none stated; cite the technical report",
        (Download(f"{_CIFAR}cifar-100-python.tar.gz",
                  "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"),),
    ),
    "clinc150": PublicSet(
        "CLINC150 (Larson et al. 2019)", "CC BY 3.0",
        (Download(_CLINC, "36923c3705a59e08fe9c3883d8bc2dd966ef93e22cb78ac41171782a698d56e0"),),
        _clinc,
    ),
    "cooking": PublicSet(
        "cooking set of fastText's tutorial (StackExchange)", "CC BY-SA 3.0",
        (Download(
            "https://dl.fbaipublicfiles.com/fasttext/data/cooking.stackexchange.tar.gz"),),
        _cooking,
    ),
    "debian": PublicSet(
        "packages of Debian 12: what they need, and their facets",
        "each description has that of its package, mostly the GPL: use, do not pass on",
        (
            Download(f"{_DEBIAN}dists/bookworm/main/binary-amd64/Packages.xz",
                     "9e0b5aabb2465b3d2e7a7fe27f9913846277833f7a2826e7767acccff5b588c5"),
            Download(f"{_DEBIAN}dists/bookworm/main/i18n/Translation-en.xz",
                     "a3d4a0bfd8e9242810b0885eda7c1a6e05dac15b333ddbaab03ba56f2dfa4bf0"),
        ),
        packages,
    ),
    "duee": PublicSet(
        "sentences of DuEE 1.0 (Li et al. 2020), from text_classifier_torch", "Apache-2.0",
        (
            Download(f"{_CHINESE}example_datasets3/train_dataset.csv",
                     "4c5d11617eb1ef6dd90c34155ece9825494baef56b964ebd04f6274e5367451b",
                     "duee/train.csv"),
            Download(f"{_CHINESE}example_datasets3/test_dataset.csv",
                     "6cbd3d5c3ba28238855f54a86b5921d55b39f374bf0ca152c99601808e7834f9",
                     "duee/test.csv"),
        ),
    ),
    "go": PublicSet(
        "synonyms of the Gene Ontology (July 2022), and terms of human genes (NCBI)",
        "CC BY 4.0, genes public domain",
        (
            Download(f"{_DEBIAN}pool/main/r/r-bioc-go.db/r-bioc-go.db_3.16.0-1_all.deb",
                     "6cf9c43b97212811ecb7ad0d7cde12e76f984ab7494a59c02455239a9dd3243d"),
            Download(
                f"{_DEBIAN}pool/main/r/r-bioc-org.hs.eg.db/r-bioc-org.hs.eg.db_3.16.0-1_all.deb",
                "0f61810d35b858915b1a9787d8dcab08b7e164c14c20a9e1d86eb9837308c2c2"),
        ),
        terms_and_genes,
    ),
    "icd10cm": PublicSet(
        "diagnoses of ICD-10-CM, April 2026 (CDC, CMS)", "public domain",
        (Download(f"{_ICD}simple_icd_10_cm-1.5.0-py3-none-any.whl",
                  "6d461d71dc26aedc530ae65f02cfb578a154e49507c32e8241e75f701d4b7e42"),),
        diagnoses,
    ),
    "revdict": PublicSet(
        "definitions of Webster 1913 (GCIDE), tested on those of WordNet 3.0",
        "GPL 3 or later, WordNet licence: use, do not pass on",
        (
            Download(f"{_DEBIAN}pool/main/d/dict-gcide/dict-gcide_0.48.5+nmu2_all.deb",
                     "7b0af5cfde3cbdef5e9d6e78f92ec335ced7c2790f37a40f49bebc6f7347ac0f"),
            Download(f"{_DEBIAN}pool/main/w/wordnet/wordnet-base_3.0-37_all.deb",
                     "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752"),
        ),
        definitions,
    ),
    "sentiment": PublicSet(
        "reviews in Chinese, from text_classifier_torch", "Apache-2.0",
        (
            Download(f"{_CHINESE}example_datasets1/train_dataset.csv",
                     "e3a2da445548c5624c2cb253dfa058becca1b8e1049e2f2f0fd0664a939a69ea",
                     "sentiment/train.csv"),
            Download(f"{_CHINESE}example_datasets1/val_dataset.csv",
                     "896f30e28907e894fb187273e886a6a1d7317e006a84630707cf61643dddcc9e",
                     "sentiment/dev.csv"),
        ),
    ),
}  # fmt: skip
