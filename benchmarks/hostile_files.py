"""Reads hostile and damaged files of others' formats, each in a process of its own.

    nice python benchmarks/hostile_files.py [--files 100] [--seed 0] [KIND ...]

Each kind is a small valid set of files and the part of tfxc that reads them. One file of it is
changed: cut off, bits flipped, bytes replaced by claims of huge sizes, parts left out or doubled,
values replaced by those of other types, pickles that name code to run. Counted are

* read: the change did not matter, or gave other values,
* reported: exit code 2 and one line,
* failed: anything else, which is printed: a traceback, another exit code, a signal, code that ran,
  more than a minute, or more than 4 GB of addresses on top of the process's own.
"""

import argparse
import collections
import contextlib
import io
import json
import os
import pickle
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import traceback
import zipfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))  # for the writers of the tests

import google_crc32c
import keras
import numpy as np
import safetensors
import safetensors.numpy
import sentencepiece
import tensorflow as tf  # noqa: F401
import tensorflow_text  # noqa: F401

from tests import torch_files
from tests.encoders.hub_folders import CONFIG, bert_arrays
from tfxc.core import cli
from tfxc.data.examples.kinds import SPARSE
from tfxc.data.reading.formats import open_reader
from tfxc.data.reading.parsing.tfrecord import read_chunks
from tfxc.data.store.records.record_writer import encode_example
from tfxc.data.text.subwords import PretrainedTokens
from tfxc.encoders.pretrained.encoder import Pretrained
from tfxc.imports.pecos import import_run
from tfxc.imports.torch_weights import fill, linear_sources
from tfxc.labels.pecos_tree import load_tree
from tfxc.pretrained.torch_files import load_state_dict

PECOS = Path(__file__).parents[1] / "tests" / "ranker" / "data"
SECONDS = 60
ADDRESSES = 4 << 30
NUMBERS = [0, -1, 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64, 10**30]
VALUES = [None, True, "text", "", [], {}, [[]], 0.5, 1e400, *NUMBERS]


class RunsCode:
    """A pickle of it makes a folder when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


# ---------------------------------------------------------------------------------------------
# Changes of bytes and of values


def changed_bytes(content, draw):
    """The bytes with one change."""
    content = bytearray(content)
    size = len(content)
    place = draw.randrange(max(size, 1))
    length = draw.choice([1, 2, 4, 8, 64, 1024])
    kind = draw.randrange(8)
    if kind == 0:
        return bytes(content[:place])
    if kind in (1, 2):
        for _ in range(draw.choice([1, 1, 3, 30])):
            content[draw.randrange(size)] ^= 1 << draw.randrange(8)
    elif kind == 3:
        content[place : place + length] = draw.choice([b"\0", b"\xff"]) * length
    elif kind == 4:
        number = draw.choice(NUMBERS[:7]) & (2**64 - 1)
        content[place : place + 8] = struct.pack("<Q", number)
    elif kind == 5:
        del content[place : place + length]
    elif kind == 6:
        content[place:place] = content[place : place + length] * draw.choice([1, 100])
    else:
        return draw.choice([b"", b"version https://git-lfs.github.com/spec/v1\n", os.urandom(size)])
    return bytes(content)


def changed_json(value, draw):
    """A JSON value with one value in it replaced, left out or renamed."""
    if isinstance(value, dict) and value and draw.random() < 0.85:
        key = draw.choice(sorted(value))
        rest = {name: item for name, item in value.items() if name != key}
        kind = draw.random()
        if kind < 0.1:
            return rest
        if kind < 0.15:
            return {**rest, key * 2: value[key]}
        return {**rest, key: changed_json(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.85:
        place = draw.randrange(len(value))
        return [*value[:place], changed_json(value[place], draw), *value[place + 1 :]]
    return draw.choice(VALUES)


def changed_array(values, draw):
    """An array with another type, shape or values."""
    kind = draw.randrange(9)
    values = values.copy()
    if kind == 0 and values.dtype.kind in "iuf":
        return values.astype(draw.choice(["f2", "f8", "?", "c8", "U5", "S3", "M8[s]", "i1", "u8"]))
    if kind == 1:
        return values.reshape(*values.shape, 1)
    if kind == 2:
        return np.array(draw.choice([3, -1, 2**62, "csr", b"coo", 0.5]))
    if kind == 3:
        return values[: len(values) // 2] if values.ndim else values
    if kind == 4:
        return np.array([], values.dtype)
    if values.ndim and values.size:
        info = np.iinfo(values.dtype) if values.dtype.kind in "iu" else None
        ends = [info.max, info.min, 1 << 20] if info else [np.nan, np.inf, 1e38]
        values.flat[draw.randrange(values.size)] = draw.choice(ends)
    return values


def changed_npz(content, draw, folder):
    """An archive of arrays, one of them changed, replaced by a pickle, or of a claimed size."""
    with np.load(io.BytesIO(content)) as archive:
        arrays = dict(archive)
    name = draw.choice(sorted(arrays))
    kind = draw.randrange(6)
    if kind < 4:
        arrays[name] = changed_array(arrays[name], draw)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", draw.choice([0, zipfile.ZIP_DEFLATED])) as archive:
        for key, values in arrays.items():
            part = io.BytesIO()
            np.save(part, values)
            data = part.getvalue()
            if key == name and kind == 4:
                part = io.BytesIO()
                np.save(part, np.array([RunsCode(str(folder / "ran"))]), allow_pickle=True)
                data = part.getvalue()
            if key == name and kind == 5:
                part = io.BytesIO()
                shape = draw.choice([(2**40,), (2**33, 2**33), (2**62,), (-5,), (2**28,)])
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(part, header)
                data = part.getvalue() + data[128:]
            archive.writestr(f"{key}.npy", data)
    return stream.getvalue()


def changed_file(path, draw, folder):
    """The new content of a file: of its bytes, or of what it holds."""
    content = path.read_bytes()
    if draw.random() < 0.6:
        if path.suffix == ".json":
            return json.dumps(changed_json(json.loads(content), draw)).encode()
        if path.suffix == ".npz":
            return changed_npz(content, draw, folder)
    return changed_bytes(content, draw)


# ---------------------------------------------------------------------------------------------
# Kinds of files: what writes them, what changes one, what reads them


class Kind:
    """Files in a folder, and what reads them."""

    def write(self, folder):
        raise NotImplementedError

    def change(self, folder, draw):
        """Changes a file; by default any."""
        path = draw.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
        path.write_bytes(changed_file(path, draw, folder))

    def read(self, folder):
        raise NotImplementedError


class SentencePiece(Kind):
    """``spiece.model`` of an ALBERT folder."""

    def write(self, folder):
        texts = ["the red fox and the hen", "an owl, a cat; no fox!", "but hens are unknown"] * 9
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=model, vocab_size=34, minloglevel=2,
            pad_id=0, unk_id=1, bos_id=2, eos_id=3, pad_piece="<pad>", bos_piece="[CLS]",
            eos_piece="[SEP]", control_symbols=["[MASK]"],
        )  # fmt: skip
        (folder / "spiece.model").write_bytes(model.getvalue())
        config = {**CONFIG, "model_type": "albert", "embedding_size": 8, "vocab_size": 34}
        (folder / "config.json").write_text(json.dumps(config))

    def change(self, folder, draw):
        path = folder / "spiece.model"
        content = path.read_bytes()
        path.write_bytes(self._pieces(content, draw) if draw.random() < 0.5 else
                         changed_bytes(content, draw))  # fmt: skip

    def _pieces(self, content, draw):
        from sentencepiece import sentencepiece_model_pb2 as proto

        model = proto.ModelProto.FromString(content)
        for _ in range(draw.choice([1, 1, 3])):
            piece = draw.choice(model.pieces)
            kind = draw.randrange(9)
            if kind == 0:
                piece.score = draw.choice([float("nan"), float("inf"), -1e38])
            elif kind == 1:
                piece.type = draw.choice([1, 2, 3, 4, 5, 6])
            elif kind == 2:
                piece.piece = draw.choice(["", "\0", "x" * 10**6, draw.choice(model.pieces).piece])
            elif kind == 3:
                del model.pieces[draw.randrange(len(model.pieces)) :]
                model.pieces.add(piece="<unk>", type=2, score=0)
            elif kind == 4:
                model.normalizer_spec.precompiled_charsmap = draw.choice(
                    [b"", b"\xff" * 8, os.urandom(64), struct.pack("<I", 2**31) + bytes(64),
                     changed_bytes(model.normalizer_spec.precompiled_charsmap, draw)]
                )  # fmt: skip
            elif kind == 5:
                model.trainer_spec.model_type = draw.choice([1, 2, 3, 4])
            elif kind == 6:
                model.trainer_spec.unk_id = draw.choice([-1, 0, 2**31 - 1])
            elif kind == 7:
                model.trainer_spec.byte_fallback = True
            else:
                del model.pieces[draw.randrange(len(model.pieces))]
            if not model.pieces:
                break
        return model.SerializeToString()

    def read(self, folder):
        tokens = PretrainedTokens(folder, max_length=16).fit([])
        tokens.transform(["the red fox", "", "日本 \U0001f600 ½ no", "unknown " * 50])


class Torch(Kind):
    """A state dict of a linear layer, as PyTorch writes it since 1.6."""

    def write(self, folder):
        state = {"weight": np.ones((3, 4), "f4"), "bias": np.zeros(3, "f4"), "step": 3}
        torch_files.save(folder / "model.pt", {"state_dict": state})

    def change(self, folder, draw):
        path = folder / "model.pt"
        if draw.random() < 0.4:
            return super().change(folder, draw)
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: archive.read(info) for info in archive.infolist()}
        name = "archive/data.pkl" if draw.random() < 0.8 else draw.choice(sorted(members))
        members[name] = changed_bytes(members[name], draw)
        if draw.random() < 0.15:
            members["archive/data.pkl"] = pickle.dumps(RunsCode(str(folder / "ran")), 2)
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return None

    def read(self, folder):
        tensors = load_state_dict(folder / "model.pt")
        for tensor in tensors.values():
            np.asarray(tensor.array()).sum()
        layer = keras.layers.Dense(3)
        layer.build((None, 4))
        fill(linear_sources("", layer.kernel, layer.bias)[:0], {}, "", "")
        named = {f"own.{name}": tensor for name, tensor in tensors.items()}
        fill(linear_sources("own", layer.kernel, layer.bias), named, folder / "model.pt", "a layer")


class OldTorch(Torch):
    """The same before PyTorch 1.6."""

    def write(self, folder):
        storages = [torch_files.Storage("0", np.ones(12, "f4"))]
        storages.append(torch_files.Storage("1", np.zeros(3, "f4")))
        content = {
            "weight": torch_files.Tensor(storages[0], 0, (3, 4), (4, 1)),
            "bias": torch_files.Tensor(storages[1], 0, (3,), (1,)),
        }
        torch_files.write_legacy(folder / "model.pt", content, storages)

    def change(self, folder, draw):
        path = folder / "model.pt"
        content = changed_bytes(path.read_bytes(), draw)
        if draw.random() < 0.1:
            content = pickle.dumps(RunsCode(str(folder / "ran")), draw.choice([0, 2, 4]))
        path.write_bytes(content)


def framed(record):
    """A record of a TFRecord file, its checksums right."""
    length = len(record).to_bytes(8, "little")
    parts = []
    for part in (length, record):
        checksum = google_crc32c.value(part)
        rotated = (checksum >> 15 | checksum << 17) + 0xA282EAD8
        parts += [part, (rotated & 0xFFFFFFFF).to_bytes(4, "little")]
    return b"".join(parts)


FIELDS = {
    "labels": np.arange(6), "label_vals": np.ones(6, "f4"), "input_idxs": np.arange(6),
    "input_vals": np.ones(6, "f4"),
}  # fmt: skip
COUNTS = {"label_counts": np.full(3, 2), "input_counts": np.full(3, 2)}


class Records(Kind):
    """TFRecords: half of the changed ones have right checksums, so that their content is parsed."""

    fields = FIELDS | COUNTS

    def write(self, folder):
        (folder / "rows.tfrecords").write_bytes(framed(encode_example(self.fields)) * 3)

    def change(self, folder, draw):
        path = folder / "rows.tfrecords"
        kind = draw.randrange(3)
        if kind == 0:
            path.write_bytes(changed_bytes(path.read_bytes(), draw))
            return
        record = encode_example(self.fields)
        if kind == 1:
            record = changed_bytes(record, draw)
        else:
            fields = dict(self.fields)
            name = draw.choice(sorted(fields))
            other = [
                np.array([2**63 - 1] * len(fields[name]), np.uint64),
                np.array([2**62, 2**62, 2**62, 2**62, *fields[name][4:]], np.uint64),
                np.array([2**64 - 1, *fields[name][1:].astype(int)], np.uint64),
                np.array([2**64 - 2, 2**31, 3, *fields[name][3:].astype(int)], np.uint64),
                np.array([2**40, *fields[name][1:].astype(int)], np.uint64),
                np.float32([np.nan, *fields[name][1:]]), np.float32([0.5] * 9),
                [b"text", b"x"], np.zeros(0, np.int64), np.zeros(0, "f4"), fields[name][:-1],
                np.array([2**31 - 1, *fields[name][1:].astype(int)], np.uint64),
            ]  # fmt: skip
            fields[name] = draw.choice(other)
            if draw.random() < 0.1:
                del fields[name]
            record = encode_example(fields)
        parts = [framed(encode_example(self.fields)), framed(record)]
        path.write_bytes(b"".join(draw.sample(parts, 2)))

    def read(self, folder):
        for _ in read_chunks(folder / "rows.tfrecords", "blocks", SPARSE, num_features=10):
            pass


class MachRecords(Records):
    """The same as the original code of MACH writes them."""

    fields = FIELDS

    def read(self, folder):
        for chunk in open_reader(folder / "rows.tfrecords").chunks(100):
            chunk.features.sum()


class Safetensors(Kind):
    """Weights of a small BERT."""

    def write(self, folder):
        config = CONFIG | {"num_hidden_layers": 1}
        (folder / "config.json").write_text(json.dumps(config))
        safetensors.numpy.save_file(bert_arrays(config, 0), folder / "model.safetensors")

    def change(self, folder, draw):
        path = folder / "model.safetensors"
        content = path.read_bytes()
        if draw.random() < 0.4:
            path.write_bytes(changed_bytes(content[: draw.choice([4000, len(content)])], draw))
            return
        size = int.from_bytes(content[:8], "little")
        head = json.loads(content[8 : 8 + size])
        data = content[8 + size :]
        if draw.random() < 0.5:
            name = draw.choice(sorted(head))
            others = [
                "BF16",
                "F16",
                "F64",
                "I64",
                "U8",
                "BOOL",
                "F8_E4M3",
                "F8_E5M2",
                "I32",
                "C64",
                "F4",
                "X",
            ]
            head[name]["dtype"] = draw.choice(others)
            if draw.random() < 0.7:
                head[name]["shape"] = draw.choice(
                    [[], [1], [2**40, 2**40], [2**62], [-1], [0], head[name]["shape"][::-1]]
                )
            if draw.random() < 0.3:
                head[name]["data_offsets"] = draw.choice([[0, 0], [0, 2**60], [8, 4], [-1, 4]])
            if draw.random() < 0.7:  # consistent: one tensor alone has another type or shape
                begin = 0
                sizes = {"BF16": 2, "F16": 2, "F64": 8, "I64": 8, "F8_E4M3": 1, "F8_E5M2": 1,
                         "U8": 1, "BOOL": 1, "I32": 4, "C64": 8}  # fmt: skip
                for item in head.values():
                    end = begin + int(np.prod(item["shape"])) * sizes.get(item["dtype"], 4)
                    item["data_offsets"] = [begin, end]
                    begin = end
                data = bytes(max(0, min(begin, 1 << 20)))
        else:
            head = changed_json(head, draw)
        written = json.dumps(head).encode()
        path.write_bytes(len(written).to_bytes(8, "little") + written + data)

    def read(self, folder):
        Pretrained(CONFIG["vocab_size"], folder).build()


class Pecos(Kind):
    """An XR-Linear model of PECOS."""

    name = "pecos_model"

    def write(self, folder):
        shutil.copytree(PECOS / self.name, folder, dirs_exist_ok=True)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)

    def read(self, folder):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder.with_name("imported"))
        import_run(folder, folder.with_name("imported"))


class MappedPecos(Pecos):
    """The same, compiled for memory mapping."""

    name = "pecos_mapped/compiled"


class PecosTree(Kind):
    """The tree of its labels."""

    def write(self, folder):
        ranker = PECOS / "pecos_model" / "ranker"
        layers = sorted(ranker.glob("*.model"))
        for number, layer in enumerate(layers):
            shutil.copyfile(layer / "C.npz", folder / f"C{number}.npz")
        (folder / "config.json").write_text(json.dumps({"len": len(layers)}))

    def read(self, folder):
        load_tree(folder)


KINDS = {
    "sentencepiece": SentencePiece(),
    "torch": Torch(),
    "old-torch": OldTorch(),
    "shards": Records(),
    "mach_records": MachRecords(),
    "safetensors": Safetensors(),
    "pecos": Pecos(),
    "mapped-pecos": MappedPecos(),
    "pecos-tree": PecosTree(),
}


# ---------------------------------------------------------------------------------------------


def outcome(kind, folder, log):
    """Exit code of a process that reads the files, or minus its signal; and what it printed."""
    child = os.fork()
    if not child:
        stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for number in (1, 2):
            os.dup2(stream, number)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESSES, used + ADDRESSES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(SECONDS)
        code = 1
        try:
            cli.run(lambda _: kind.read(folder))
        except SystemExit as end:
            code = end.code or 0
        finally:
            if sys.exc_info()[0]:
                traceback.print_exc()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), log.read_text(errors="replace")


def measure(name, files, seed):
    """Counts of a kind, and what failed."""
    kind = KINDS[name]
    draw = random.Random(f"{name} {seed}")
    counts = collections.Counter()
    failures = collections.Counter()
    with tempfile.TemporaryDirectory() as base:
        base = Path(base)
        (base / "valid").mkdir()
        kind.write(base / "valid")
        code, shown = outcome(kind, base / "valid", base / "log")
        assert code == 0, shown
        for number in range(files):
            folder = base / "changed"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(base / "valid", folder)
            kind.change(folder, draw)
            code, shown = outcome(kind, folder, base / "log")
            lines = [line for line in shown.splitlines() if line.startswith("tfxc: ")]
            ran = (folder / "ran").exists()
            if code == 0 and not ran:
                counts["read"] += 1
            elif code == 2 and len(lines) == 1 and "Traceback" not in shown and not ran:
                counts["reported"] += 1
            else:
                counts["failed"] += 1
                last = (shown.strip().splitlines() or [""])[-1][:200]
                source = [line.strip() for line in shown.splitlines() if "/tfxc/" in line][-1:]
                failures[f"exit {code}{', code ran' * ran}: {last} {source}"] += 1
                if keep := os.environ.get("TFXC_KEEP"):
                    shutil.copytree(folder, Path(keep) / f"{name}-{number}", dirs_exist_ok=True)
                    shutil.copyfile(base / "log", Path(keep) / f"{name}-{number}.log")
    return counts, failures


def main():
    """Prints a line for each kind."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}")
    options.add_argument("--files", type=int, default=100, help="per kind (default: 100)")
    options.add_argument("--seed", type=int, default=0, help="of the changes (default: 0)")
    given = options.parse_args()
    columns = ("read", "reported", "failed")
    print(f"{'kind':14}" + "".join(f"{column:>10}" for column in ("files", *columns)), flush=True)
    for name in given.kinds or KINDS:
        counts, failures = measure(name, given.files, given.seed)
        values = (given.files, *(counts[column] for column in columns))
        print(f"{name:14}" + "".join(f"{value:10}" for value in values), flush=True)
        for failure, times in failures.most_common():
            print(f"    {times} x {failure}", flush=True)


if __name__ == "__main__":
    main()
