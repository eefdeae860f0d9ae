"""Writes a run as an ONNX or LiteRT model and compares it with the run's own model.

A converted model takes the run's own features, scaled rows included, and gives ``label_ids`` int32
and ``scores`` float32, both (batch, k), best first. Texts are cut outside it; what does that is in
its folder, see ``tfxc.exports.bundle``.
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tfxc.core.errors import ConfigError
from tfxc.core.storage import checksums
from tfxc.core.storage.files import folder_bytes
from tfxc.core.storage.ownership import atomic_folder
from tfxc.exports import MIN_AGREEMENT
from tfxc.exports.bundle import NAMES, write_bundle
from tfxc.exports.parity import Agreement, Expected, agreement_of, outputs_of_function
from tfxc.exports.rule import exported_rule
from tfxc.exports.target import check_target

if TYPE_CHECKING:
    from tfxc.runs.loaded import LoadedRun


class Converted(NamedTuple):
    """What ``export_model`` wrote.

    Attributes:
        folder: holds ``file``, ``labels.txt`` (line i names label i), for runs on texts
            ``text_features/``, and the programs of ``tfxc.exports.bundle``.
        format: ``"onnx"`` or ``"litert"``.
        file: name of the model's file.
        input_kind: name of the kind of the features, see ``tfxc.data.examples.kinds.KINDS``.
        k: labels per example.
        batch: the only batch size the model reads, or None if it takes any.
        size_bytes: of the model's file.
        folder_bytes: of the whole folder.
        weight_bytes: of the run's variables that the model needs.
        score_difference: largest difference of a score to the run's own model, before weights
            were quantised.
        agreement: ``Agreement`` of a quantised model with the run's own; else None.
        probabilities: whether scores are probabilities.
        missing: what keeps the programs from reading the run's examples, so that they are not
            there; else None.
    """

    folder: Path
    format: str
    file: str
    input_kind: str
    k: int
    batch: int | None
    size_bytes: int
    folder_bytes: int
    weight_bytes: int
    score_difference: float
    agreement: Agreement | None
    probabilities: bool
    missing: str | None


def export_model(
    loaded_run: "LoadedRun",
    folder: str | Path,
    name: str,
    k: int = 5,
    *,
    int8: bool = False,
    min_agreement: float = MIN_AGREEMENT,
    probabilities: bool = False,
) -> "Converted":
    """Converts a run's model, and renames it into place once its results match the run's.

    The computation is float32, whatever the run was trained in.

    Args:
        loaded_run: a ``tfxc.runs.loaded.LoadedRun``.
        folder: folder to write; an older export of the same format there is replaced.
        name: one of ``tfxc.exports.FORMATS``.
        k: labels per example.
        int8: whether weights are stored as 8-bit integers, as far as the format does that.
        min_agreement: share of the examples whose best label a quantised model has to keep.
        probabilities: whether ``scores`` are those of ``tfxc predict --probabilities``.

    Returns:
        ``Converted``.

    Raises:
        ConfigError: a package is missing, an operation of the model has no equivalent in the
            format, the weights are too large for it, k exceeds the number of labels, the model
            has no probabilities, the folder holds something else, or the quantised model agrees
            too rarely.
        UserError: the disk is full or the folder cannot be written to.
        CheckpointError: the run is not finished.
        RuntimeError: the converted model has other results: a bug, here or in the converter.

    Example:
        >>> from tfxc.runs.loaded import load_run
        >>> export_model(load_run("runs/quickstart"), "served", "onnx").input_kind  # doctest: +SKIP
        'sparse'
    """
    folder = Path(folder)
    form = importlib.import_module(f"tfxc.exports.{name}").FORMAT
    form.require()
    kind = f"exported {name} model"
    check_target(loaded_run, folder, k, kind)
    if probabilities:
        loaded_run.model.check_probabilities()
    rule = exported_rule(loaded_run, probabilities)
    source = form.source(loaded_run, k, probabilities)
    if form.most_bytes is not None and source.weight_bytes > form.most_bytes:
        raise ConfigError(
            f"the weights take {source.weight_bytes / 2**30:.1f} GiB, but the format {name!r} is "
            "limited to less than 2 GiB",
            where="--format",
            fix="choose savedmodel",
        )
    with atomic_folder(folder, kind, (form.file, *NAMES)) as scratch:
        path = scratch / form.file
        agreement = None
        batch = form.write(source, path)
        answers = outputs_of_function(form.open(path), batch)
        difference = Expected(loaded_run, k, probabilities).largest_difference(answers)
        if int8:
            form.quantise(source, path, batch)
            agreement = agreement_of(loaded_run, form.open(path), k, batch, probabilities)
            if agreement.share < min_agreement:
                raise ConfigError(
                    f"after quantisation only {agreement.share:.1%} of {agreement.examples} "
                    f"examples ({agreement.source}) have the same best label, and scores differ "
                    f"by up to {agreement.score_difference:.1e}; --min-agreement asks for "
                    f"{min_agreement:.1%}, so nothing was written",
                    where="--quantize",
                    fix=f"export {name} without --quantize, or lower --min-agreement",
                )
        about = {
            "format": name,
            "file": form.file,
            "batch": batch,
            "k": k,
            "probabilities": probabilities,
            "decision": None if rule is None else rule.content(),
        }
        missing = write_bundle(loaded_run, scratch, source.input_kind, about)
        checksums.record(scratch)
        return Converted(
            folder=folder,
            format=name,
            file=form.file,
            input_kind=source.input_kind,
            k=k,
            batch=batch,
            size_bytes=folder_bytes(path),
            folder_bytes=folder_bytes(scratch),
            weight_bytes=source.weight_bytes,
            score_difference=difference,
            agreement=agreement,
            probabilities=probabilities,
            missing=missing,
        )
