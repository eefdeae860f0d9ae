"""Writes a run in one of the formats, and says what was written.

Nothing here imports TensorFlow before it is needed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfxc.core.declared import check_choice
from tfxc.core.errors import ConfigError
from tfxc.exports import FORMATS, MIN_AGREEMENT
from tfxc.exports.rule import exported_rule

if TYPE_CHECKING:
    from tfxc.exports.savedmodel import Exported
    from tfxc.runs.loaded import LoadedRun


#: Labels per example, where nothing is said about it and there are as many.
DEFAULT_K = 5
#: How weights can be stored in fewer bits.
QUANTIZED = ("int8",)


def default_k(loaded: "LoadedRun", probabilities: bool) -> int:
    """Returns labels per example, where nothing is said about it: as many as the run may return."""
    rule = exported_rule(loaded, probabilities)
    most = DEFAULT_K if rule is None or rule.at_most is None else rule.at_most
    return min(most, loaded.manifest["num_labels"])


def default_name(format: str, quantize: str | None) -> str:
    """Returns the folder inside a run, where no other is named."""
    return format if quantize is None else f"{format}-{quantize}"


def check_quantize(quantize: str | None, format: str) -> None:
    """Refuses what cannot be quantised, or not so.

    Raises:
        ConfigError: another way than those of ``QUANTIZED``, or a SavedModel.
    """
    if quantize is None:
        return
    check_choice("quantize", quantize, QUANTIZED)
    if format == "savedmodel":
        raise ConfigError(
            f"a SavedModel cannot be quantised to {quantize}",
            where="--quantize",
            fix="choose --format onnx, litert or runtime",
        )


def formats_of(loaded: "LoadedRun") -> tuple[str, ...]:
    """Returns the formats that a run can be written in, the usual one first.

    A network is refused some of these later: it depends on its parts.
    """
    from tfxc.inference.protocol import RankerModel

    if not isinstance(loaded.model, RankerModel):
        return ("savedmodel", *FORMATS)
    return ("runtime",) if loaded.model.memory is not None else ("savedmodel", "runtime")


def export(
    loaded: "LoadedRun",
    folder: Path,
    format: str,
    k: int,
    probabilities: bool = False,
    int8: bool = False,
    min_agreement: float = MIN_AGREEMENT,
) -> str:
    """Writes a run in one of the formats; returns a report of what was written.

    Args:
        loaded, folder, k, probabilities: see ``tfxc.exports.savedmodel.export_savedmodel``.
        format: ``"savedmodel"`` or one of ``tfxc.exports.FORMATS``.
        int8, min_agreement: see ``tfxc.exports.convert.export_model``.

    Raises:
        ConfigError: the format is unknown, or the model or the choice does not suit it.
    """
    check_choice("format", format, ("savedmodel", *FORMATS))
    formats = formats_of(loaded)
    if format not in formats:
        kind = "linear ranker" if "savedmodel" in formats else "memory"
        raise ConfigError(
            f"a {kind} cannot be exported as {format}",
            where="--format",
            fix=f"choose {' or '.join(formats)}",
        )
    if format == "savedmodel":
        from tfxc.exports.savedmodel import export_savedmodel

        return report(export_savedmodel(loaded, folder, k, probabilities), loaded.manifest)
    from tfxc.exports.convert import export_model
    from tfxc.exports.usage import report_of_model

    done = export_model(
        loaded,
        folder,
        format,
        k,
        int8=int8,
        min_agreement=min_agreement,
        probabilities=probabilities,
    )
    return report_of_model(done, loaded)


def report(done: "Exported", manifest: Mapping[str, Any]) -> str:
    """Returns what was written and how to call it, as text.

    Args:
        done: ``tfxc.exports.savedmodel.Exported``.
        manifest: the run's manifest as a dict.
    """
    from tfxc.data.examples.kinds import ENCODED, IMAGE
    from tfxc.exports.usage import inputs_of, served_call

    inputs = inputs_of(done.input_kind, manifest)
    if done.input_kind == IMAGE.name:
        (files,) = ENCODED.tensors(manifest)
        inputs += f"; of signature 'encoded': {files}"
    call = served_call(done.input_kind, manifest)
    texts = manifest.get("text_features") or {}
    subwords = "pretrained" in (texts.get("name"), texts.get("tokens", {}).get("name"))
    return "\n".join(
        [
            f"{done.folder}: {done.size_bytes / 1e6:,.1f} MB, of which weights "
            f"{done.weight_bytes / 1e6:,.1f} MB; {manifest['num_labels']:,} labels",
            f"  inputs   {inputs}",
            "  outputs  labels: string, ids: int32, scores: float32; "
            f"(batch, {done.k}), best first",
            *(["           scores are probabilities"] * done.probabilities),
            "  checked against the run's model: "
            f"scores differ by at most {done.score_difference:.1e}",
            "",
            "import tensorflow as tf",
            *(["import tensorflow_text  # a server needs its ops, which cut the texts"] * subwords),
            f'model = tf.saved_model.load("{done.folder}").signatures["serving_default"]',
            f'print({call}["labels"])',
        ]
    )
