"""The run folder of an imported image network."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfxc.core.config import parse_config
from tfxc.data.examples.kinds import IMAGE
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.model import XCModel, build_model
from tfxc.runs.writer import manifest_of, new_run, split_of


def write_image_run(
    source: str | Path,
    output: str | Path,
    sections: Mapping[str, Any],
    *,
    system: str,
    image_shape: Sequence[int],
    vocabulary: LabelVocabulary,
    assign: Callable[[XCModel], None],
) -> None:
    """Writes a run atomically.

    Args:
        source: what was imported.
        output: the run folder; an older run there is replaced.
        sections: ``encoder`` and ``head`` of the config; the objective is ``softmax``.
        system: name of the system it comes from, which the data are named after.
        image_shape: (height, width, channels).
        vocabulary: the labels; there may be none.
        assign: gives the built model its weights.

    Raises:
        UserError: the output holds something else than a run.
    """
    height, width, channels = image_shape
    images = {"height": height, "width": width, "channels": channels}
    where = f"The run was imported from {system}, without its data: name a file with --data"
    data = {"name": system, "train": "unknown", "images": images, "where": where}
    tree = {"run": str(output), "data": data, "objective": {"name": "softmax"}, **sections}
    config = parse_config(tree)
    sizes: dict[str, Any] = {
        "feature_kind": IMAGE.name,
        "num_features": int(np.prod(image_shape)),
        "image_shape": list(image_shape),
        "num_labels": len(vocabulary),
    }
    model = build_model(config, num_examples=0, **sizes)
    assign(model)
    with new_run(output) as run:
        run.write_config(config)
        run.write_assets(manifest_of(system, split=split_of(()), **sizes), vocabulary)
        run.save_weights(model)
        run.write_summary({"imported": str(source), "dev": {}})
