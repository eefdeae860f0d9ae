"""Small feature sets for the tests."""

import numpy as np

from tfxc.data.store.feature_sets.writer import FeatureWriter


def vectors(count, dim=5):
    """Row i is i, i + 0.1, …"""
    return (np.arange(count)[:, None] + np.arange(dim) / 10).astype(np.float32)


def write_set(folder, features=None, labels=None, num_labels=7, **options):
    """Writes a feature set of ``vectors(43)`` with the labels i mod 7 unless told otherwise."""
    features = vectors(43) if features is None else features
    labels = np.arange(len(features)) % num_labels if labels is None else labels
    sizes = {"num_features": features.shape[1], "num_labels": num_labels}
    with FeatureWriter(folder, labels=labels, **sizes, **options) as writer:
        if not writer.finished:
            writer.write(0, features)
    return folder


def files(folder):
    """Names and contents of the files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
