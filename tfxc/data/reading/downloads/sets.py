"""The sets that can be downloaded: where they are, whose they are, how configs expect them."""

import csv
import dataclasses
import io
import json
import lzma
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from tfxc.core.errors import DataError
from tfxc.core.escaping import json_text
from tfxc.core.storage.files import atomic_file
from tfxc.core.storage.reading import archive_errors
from tfxc.data.reading.downloads.download import download

Example = tuple[str, list[str]]
_CLINC = "https://raw.githubusercontent.com/clinc/oos-eval/master/data/data_full.json"
_BANKING = (
    "https://raw.githubusercontent.com/PolyAI-LDN/task-specific-datasets/master/banking_data/"
)
_CIFAR = "https://www.cs.toronto.edu/~kriz/"
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
        convert: function of {name: downloaded file} to {file to write: its examples}; None keeps
            the files as they are.
    """

    title: str
    licence: str
    files: tuple[Download, ...]
    convert: Callable[[Mapping[str, Path]], dict[str, Iterable[Example]]] | None = None


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
    for target, examples in public.convert(downloaded).items():
        path = folder / name / target
        if not path.exists():
            _write(path, examples)
        written.append(path)
    return written


def _write(path: Path, examples: Iterable[Example]) -> None:
    """Writes ``.jsonl.xz``; the same examples give the same bytes."""
    with atomic_file(path, "wb") as raw, lzma.open(raw, "wb") as stream:
        for text, labels in examples:
            line = json_text({"text": text, "labels": labels})
            stream.write(line.encode() + b"\n")


def _clinc(files: Mapping[str, Path]) -> dict[str, Iterable[Example]]:
    """Returns ``{"train": [[text, intent], ...], "val": ..., ...}``; the test set is left where it
    is.
    """
    path = files["data_full.json"]
    try:
        splits = json.loads(path.read_text("utf-8"))
        return {
            target: [(text, [label]) for text, label in splits[split]]
            for split, target in (("train", "train.jsonl.xz"), ("val", "dev.jsonl.xz"))
        }
    except (ValueError, KeyError, TypeError) as error:
        raise _another_form(path, f"{type(error).__name__} {error}") from error


def _banking(files: Mapping[str, Path]) -> dict[str, Iterable[Example]]:
    return {f"{split}.jsonl.xz": _rows(files[f"{split}.csv"]) for split in ("train", "test")}


def _rows(path: Path) -> Iterator[Example]:
    with open(path, encoding="utf-8", newline="") as stream:
        try:
            for row in csv.DictReader(stream):
                yield row["text"].strip(), [row["category"]]
        except (KeyError, AttributeError, csv.Error) as error:
            raise _another_form(path, f"{type(error).__name__} {error}") from error


def _cooking(files: Mapping[str, Path]) -> dict[str, Iterable[Example]]:
    """Returns fastText's lines, cut as in its tutorial: the first 12,404, and the last 3,000."""
    path = files["cooking.stackexchange.tar.gz"]
    with archive_errors(path), tarfile.open(path) as archive:
        name = "cooking.stackexchange.txt"
        members = (m for m in archive if m.isfile() and Path(m.name).name == name)
        member = next(members, None)
        if member is None:
            raise _another_form(path, f"no {name}")
        content = archive.extractfile(member)
        assert content is not None, "a file"
        lines = io.TextIOWrapper(content, "utf-8").read().splitlines()
    examples = []
    for line in lines:
        words = line.split(" ")
        labels = [word.removeprefix("__label__") for word in words if word.startswith("__label__")]
        text = " ".join(word for word in words if not word.startswith("__label__"))
        examples.append((text, list(dict.fromkeys(labels))))
    return {"train.jsonl.xz": examples[:12404], "dev.jsonl.xz": examples[-3000:]}


def _another_form(path: Path, reason: str) -> DataError:
    return DataError(
        f"the file is not as the authors of the set describe it ({reason})",
        where=path,
        fix="remove the file to download it again",
    )


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
