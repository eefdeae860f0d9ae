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
    """Returns the class centres of one training.

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
    shards = [_weight(load_torch(file), file) for file in paths]
    shapes = [shard.shape for shard in shards]
    arrays = (np.array(shard.array(), np.float32) for shard in shards)
    if len(shards) == 1:
        match = next(filter(None, (form.fullmatch(path.name) for form in _FILES)), None)
        if match is not None and len(shapes[0]) != 3:
            ranks = sum(bool(match.re.fullmatch(file.name)) for file in path.parent.iterdir())
            if ranks > 1 or int(match[1]):
                raise DataError(
                    f"the file has the centres of rank {match[1]} alone, of {ranks} ranks",
                    where=path,
                    fix="give the folder",
                )
        return next(arrays)
    if any(len(shape) != 2 or shape[1] != shapes[0][-1] for shape in shapes):
        three = any(len(shape) == 3 for shape in shapes)
        raise DataError(
            f"the shards are not all (classes, dim) of one width: {', '.join(map(str, shapes))}",
            where=path,
            fix="name one file: each of MHE's ranks has all centres"
            if three
            else "give the files of one training",
        )
    rows = [shape[0] for shape in shapes]
    total = sum(rows)
    ranks = len(rows)
    shares = [total // ranks + (rank < total % ranks) for rank in range(ranks)]
    if rows != shares:
        raise DataError(
            f"the ranks have {', '.join(map(str, rows))} classes instead of "
            f"{', '.join(map(str, shares))}, the shares of {total:,} classes",
            where=path,
            fix="give the files of one training, of all its ranks",
        )
    # That the last ranks are missing does not show in the files.
    NOTES.info(f"{path}: {ranks} ranks, {total:,} classes")
    return np.concatenate(list(arrays))


def _shards(folder: Path) -> list[Path]:
    """Returns the files of ranks 0, 1, ... in their order."""
    for form in _FILES:
        matches = [(form.fullmatch(file.name), file) for file in folder.iterdir()]
        files = {int(match[1]): file for match, file in matches if match}
        missing = set(range(max(files, default=-1) + 1)) - set(files)
        if missing:
            name = form.pattern.replace("\\", "").replace("(d+)", str(min(missing)))
            raise DataError(
                f"{name} is missing: the ranks go up to {max(files)}",
                where=folder,
                fix="copy the files of all ranks",
            )
        if files:
            return [files[rank] for rank in sorted(files)]
    raise DataError(
        f"the folder has no {_FORMS} of ranks R",
        where=folder,
        fix="give the output folder of the training, or a file",
    )


def _weight(content: object, path: Path) -> TorchTensor:
    for key in ("state_dict_softmax_fc", "state_dict", "weight"):
        if isinstance(content, dict) and key in content:
            content = content[key]
    if isinstance(content, TorchTensor) and len(content.shape) in (2, 3) and all(content.shape):
        return content
    contents = content if isinstance(content, TorchTensor) else type(content).__name__
    if isinstance(content, dict):
        contents = f"the keys {', '.join(map(str, content))}"
    raise DataError(
        f"there are no class centres (classes, dim) in a tensor 'weight', but {contents}",
        where=path,
        fix="save them with torch.save, in InsightFace with save_all_states",
    )
