"""Whatever is wrong with a file, a reader of images says so with a DataError."""

import numpy as np
import pytest

from tests.data.reading.formats.test_cifar import FORMS, Rebuilt
from tests.data.reading.formats.test_image_files import TestImageArrays as Arrays
from tests.data.reading.formats.test_insightface import TestInsightFace as Records
from tests.data.reading.formats.test_matrices import TestDenseMatrix as Matrix
from tests.data.reading.formats.test_webdataset import TestWebDataset as Shards
from tfxc.core.errors import DataError
from tfxc.data.reading.formats import open_reader

TRIALS = 60


def damaged(content, rng):
    """``content`` with a few bytes changed, left out or put in, mostly where the heads are."""
    content = bytearray(content)
    for _ in range(rng.choice([1, 3, 10])):
        at = int(rng.integers(min(len(content), rng.choice([64, 512, len(content)]))))
        more = rng.integers(0, 256, rng.integers(1, 9), np.uint8).tobytes()
        end = {"change": at + len(more), "insert": at, "cut": at + 3}[
            rng.choice(["change", "insert", "cut"])
        ]
        content[at:end] = more if end != at + 3 else b""
    return bytes(content)


def cifar(folder, name):
    path = Rebuilt(FORMS[0]).write_folder(folder)
    return path, path / name


def cifar_archive(folder):
    path = Rebuilt(FORMS[3]).write_archive(folder)
    return path, path


def sample(contract):
    def write(folder):
        path = contract.write_sample(folder)
        return path, path

    return write


def compressed(contract):
    return lambda folder: next(iter(contract.write_compressed(folder)))


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: cifar(folder, "batches.meta"),
        lambda folder: cifar(folder, "data_batch_1"),
        cifar_archive,
        sample(Records()),
        lambda folder: (path := Records().write_sample(folder), path.with_suffix(".idx")),
        sample(Shards()),
        compressed(Shards()),
        sample(Arrays()),
        compressed(Arrays()),
        sample(Matrix()),
    ],
    ids=[
        "cifar names", "cifar batch", "cifar archive", "records", "index", "shard",
        "compressed shard", "arrays", "compressed arrays", "matrix",
    ],
)  # fmt: skip
def test_damage_is_refused_or_read(tmp_path, write):
    path, victim = write(tmp_path)
    content, rng = victim.read_bytes(), np.random.default_rng(11)
    refused = 0
    for _ in range(TRIALS):
        victim.write_bytes(damaged(content, rng))
        try:
            list(open_reader(path).chunks(3))
        except DataError:
            refused += 1
    assert refused > TRIALS // 10
