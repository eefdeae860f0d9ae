"""What a prepared folder says where the data are feature sets: sizes, names, counts, no rows."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tfxc.core.errors import ConfigError, DataError
from tfxc.core.storage.files import write_array
from tfxc.data.examples.kinds import DENSE
from tfxc.data.reading.parsing.feature_set import FeatureSet
from tfxc.data.reading.source_files import SourceInfo
from tfxc.data.store.manifest import (
    LABEL_COUNTS_FILE,
    LABELS_FILE,
    UNSEEN_LABELS_FILE,
    Manifest,
    SplitInfo,
    fingerprint,
    fingerprints_of,
)
from tfxc.labels.vocabulary import LabelVocabulary

if TYPE_CHECKING:
    from tfxc.core.settings import DataSettings


LAYOUT: Literal["feature_set"] = "feature_set"
_SUPPORTED_SETTINGS = {"name", "train", "dev", "test", "reader", "where", "rehearsal"}


def prepare_feature_sets(
    settings: "DataSettings", sources: Mapping[str, str | Path], folder: Path
) -> None:
    """Checks the feature sets of all splits and writes what a model needs to know about them.

    Args:
        settings, sources: as for ``names_feature_sets``.
        folder: where to write manifest, label names and label counts.

    Raises:
        ConfigError: a setting that does not apply to feature sets.
        DataError: a set cannot be read, a label is out of range, or the splits do not fit together.
    """
    for key, field in type(settings).model_fields.items():
        if key not in _SUPPORTED_SETTINGS and getattr(settings, key) != field.default:
            fix = f"remove {key}"
            if key == "normalise":
                fix += " and set encoder.unit_norm=true"
            raise ConfigError(
                f"{key} does not apply to feature sets, which are read as they are",
                where=f"data.{key}",
                fix=fix,
            )
    sets = {split: FeatureSet(path) for split, path in sources.items()}
    train = sets["train"]
    counts = {split: features.label_counts() for split, features in sets.items()}
    for split, features in sets.items():
        for name in ("num_features", "num_labels", "label_names"):
            train_value = getattr(train, name)
            value = getattr(features, name)
            if value != train_value:
                if name == "label_names":
                    problem = "the label_names are not those of the training split"
                else:
                    problem = f"{name} is {value}, but {train_value} in the training split"
                raise DataError(
                    problem,
                    where=f"data.{split} ({features.folder})",
                    fix="make all splits from one set with tfxc features split",
                )
    names = train.label_names or map(str, range(train.num_labels))
    LabelVocabulary(names).save(folder / LABELS_FILE)
    LabelVocabulary([]).save(folder / UNSEEN_LABELS_FILE)
    write_array(folder / LABEL_COUNTS_FILE, counts["train"])
    identities = {split: features.identity for split, features in sets.items()}
    Manifest(
        name=settings.name,
        settings_fingerprint=fingerprint(settings),
        layout=LAYOUT,
        feature_kind=DENSE.name,
        num_features=train.num_features,
        num_labels=train.num_labels,
        num_unseen_labels=0,
        text_features=None,
        row_normalise=None,
        sources={
            split: SourceInfo(path=written, sha256=identities[split])
            for split, written in settings.sources().items()
        },
        splits={
            split: SplitInfo(
                examples=features.num_examples,
                nonzeros=features.num_examples * features.num_features,
                labels=features.num_examples,
                min_labels=1,
                max_labels=1,
                without_labels=0,
                unseen_labels=0,
                shards=[],
            )
            for split, features in sets.items()
        },
        fingerprints=fingerprints_of(folder, identities),
    ).save(folder)
