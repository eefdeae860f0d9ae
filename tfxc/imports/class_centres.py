"""Class centres of face recognition as InsightFace and MHE save them, whole or in shards."""

import re
from pathlib import Path

import numpy as np

from tfxc.core.errors import DataError
from tfxc.core.messages import NOTES
from tfxc.core.storage.reading import existing_file
from tfxc.pretrained.torch_files import TorchTensor, load_torch

# Names of the files of rank 0, 1, ... of one training, by the version of arcface_torch.
_FILES = (
    re.compile(r"checkpoint_gpu_(\d+)\.pt"),
    re.compile(r"softmax_fc_gpu_(\d+)\.pt"),
    re.compile(r"rank_(\d+)_softmax_weight\.pt"),
)
_FORMS = "checkpoint_gpu_R.pt, softmax_fc_gpu_R.pt or rank_R_softmax_weight.pt"


def read_centres(path: str | Path) -> np.ndarray:
    """The class centres of one training.

    Partial FC shards N centres over w ranks: rank i has the rows from ``N // w * i +
    min(i, N % w)``. The files are

    * ``checkpoint_gpu_R.pt``, with the centres under ``state_dict_softmax_fc``, ``weight``;
    * ``softmax_fc_gpu_R.pt``, under ``weight``;
    * ``rank_R_softmax_weight.pt``, the centres alone.

    Args:
        path: folder with the files of all ranks, or a single file with all centres.

    Returns:
        float32 (classes, dim), or (C0, C1, dim) of MHE's heads.

    Raises:
        DataError: a rank below the last one found is missing, or the shards are not those of one
            training. That the last ranks are missing does not show: the numbers of ranks and
            classes are printed.

    Example:
        >>> read_centres("work_dirs/ms1mv3_r50").shape  # doctest: +SKIP
        (93431, 512)

    Reference: An et al., CVPR 2022 (arXiv 2203.15565); github.com/deepinsight/insightface.
    """
    path = Path(path)
    paths = _shards(path) if path.is_dir() else [existing_file(path)]
    shards = [_weight(load_torch(one), one) for one in paths]
    shapes = [shard.shape for shard in shards]
    if len(shards) == 1:
        _refuse_one_of_many(path, shapes[0])
        return _float32(shards[0])
    if any(len(shape) != 2 or shape[1] != shapes[0][-1] for shape in shapes):
        three = any(len(shape) == 3 for shape in shapes)
        raise DataError(
            f"shards (classes, dim) of one width expected, found {', '.join(map(str, shapes))}",
            where=path,
            fix="MHE's ranks each have all centres: name one file" if three else None,
        )
    rows = [shape[0] for shape in shapes]
    _check_rows(rows, path)
    # That the last ranks are missing does not show in the files.
    NOTES.info(f"{path}: {len(rows)} ranks, {sum(rows):,} classes")
    return np.concatenate([_float32(shard) for shard in shards])


def _float32(tensor):
    return np.array(tensor.array(), np.float32)


def _shards(folder):
    """The files of ranks 0, 1, ... in their order."""
    for form in _FILES:
        matches = [(form.fullmatch(one.name), one) for one in folder.iterdir()]
        found = {int(match[1]): one for match, one in matches if match}
        missing = set(range(max(found, default=-1) + 1)) - set(found)
        if missing:
            names = form.pattern.replace("\\", "").replace("(d+)", str(min(missing)))
            raise DataError(
                f"a file of every rank up to {max(found)} expected, {names} is missing",
                where=folder,
                fix="copy the files of all ranks",
            )
        if found:
            return [found[rank] for rank in sorted(found)]
    raise DataError(
        f"{_FORMS} of each rank R expected, found none",
        where=folder,
        fix="give the output folder of the training, or a file",
    )


def _weight(content, path):
    for key in ("state_dict_softmax_fc", "state_dict", "weight"):
        if isinstance(content, dict) and key in content:
            content = content[key]
    tensor = isinstance(content, TorchTensor)
    if not tensor or len(content.shape) not in (2, 3) or not all(content.shape):
        what = content if tensor else type(content).__name__
        if isinstance(content, dict):
            what = f"the keys {', '.join(map(str, content))}"
        raise DataError(
            f"class centres (classes, dim) as a tensor 'weight' expected, found {what}",
            where=path,
            fix="save them with torch.save, in InsightFace with save_all_states",
        )
    return content


def _check_rows(rows, path):
    total, ranks = sum(rows), len(rows)
    expected = [total // ranks + (rank < total % ranks) for rank in range(ranks)]
    if rows != expected:
        raise DataError(
            f"{', '.join(map(str, expected))} classes in the ranks of {total:,} classes expected, "
            f"found {', '.join(map(str, rows))}",
            where=path,
            fix="give the files of one training, of all its ranks",
        )


def _refuse_one_of_many(path, shape):
    """Refuses a shard that is named alone."""
    form = next((form for form in _FILES if form.fullmatch(path.name)), None)
    if form is None or len(shape) == 3:
        return
    others = [one.name for one in path.parent.iterdir() if form.fullmatch(one.name)]
    if len(others) > 1 or int(form.fullmatch(path.name)[1]):
        raise DataError(
            f"the centres of all ranks expected, found those of one of {len(others)}",
            where=path,
            fix="give the folder",
        )
