"""Small models whose training step ``tests.training.placement`` walks."""

import contextlib
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfxc.core.config import parse_config
from tfxc.encoders.pretrained.encoder import Pretrained
from tfxc.model import XCModel, build_model
from tfxc.training.optimization.optimizers import get_optimizer
from tfxc.training.optimization.schedules import get_schedule
from tfxc.training.step import TrainStep

LABELS, FEATURES, BATCH = 4096, 5000, 64
IMAGE = (16, 16, 3)
MINILM = {
    "family": "bert", "vocabulary_size": FEATURES, "embedding_dim": 16, "hidden_dim": 16,
    "num_layers": 2, "num_heads": 2, "feed_forward_dim": 24, "max_positions": 24,
}  # fmt: skip

_BAG = {"encoder": {"name": "bag_mlp", "hidden": [16]}}
_VECTORS = {"encoder": {"name": "precomputed"}}
_IMAGES = {"encoder": {"name": "resnet", "depth": 18, "width": 8}}
_SOFTMAX = {"objective": {"name": "softmax"}}


def _mach(repetitions):
    head = {"name": "mach", "num_buckets": 128, "num_repetitions": repetitions}
    return {**_BAG, "head": head, "objective": {"name": "sigmoid"}}


def _dual(objective):
    return {**_VECTORS, "head": {"name": "sampled"}, "objective": {"name": objective}}


MODELS = {
    "mach_1": _mach(1),
    "mach_4": _mach(4),
    "mach_16": _mach(16),
    "dense": {**_VECTORS, "head": {"name": "dense"}, **_SOFTMAX},
    "fused": {
        **_VECTORS,
        "head": {"name": "dense", "update": "fused", "learning_rate": 0.1},
        **_SOFTMAX,
    },
    "mhc": {**_VECTORS, "head": {"name": "mhc", "heads": [64, 64], "beam": 2}, **_SOFTMAX},
    "mhs": {
        **_VECTORS,
        "head": {"name": "mhs", "heads": [64, 64], "num_sampled_heads": 2},
        **_SOFTMAX,
    },
    "mhp": {**_VECTORS, "head": {"name": "mhp", "heads": [64, 64]}, **_SOFTMAX},
    "sampled": {
        **_VECTORS,
        "head": {"name": "sampled", "num_extra": 32, "extra": "uniform"},
        **_SOFTMAX,
    },
    "margin": {**_VECTORS, "head": {"name": "margin"}, **_SOFTMAX},
    "scent": _dual("scent"),
    "sox": _dual("sox"),
    "textcnn": {
        "encoder": {"name": "textcnn", "embedding_dim": 8, "num_filters": 4},
        "head": {"name": "dense"},
        **_SOFTMAX,
    },
    "minilm": {"encoder": {"name": "textcnn"}, "head": {"name": "dense"}, **_SOFTMAX},
    "resnet": {**_IMAGES, "head": {"name": "margin"}, **_SOFTMAX},
}


def _features(kind):
    """(feature kind, sizes of the data, features of a batch)."""
    draw = np.random.default_rng(0)
    ids = draw.integers(1, FEATURES, BATCH * 20).astype(np.int32)
    if kind == "bag_mlp":
        splits = np.arange(BATCH + 1) * 20
        return "sparse", {"num_features": FEATURES}, {
            "ids": ids, "weights": np.ones(len(ids), np.float32), "row_splits": splits
        }  # fmt: skip
    if kind == "precomputed":
        return "dense", {"num_features": 24}, draw.normal(size=(BATCH, 24)).astype(np.float32)
    if kind == "textcnn":
        return "tokens", {"num_features": FEATURES}, ids.reshape(BATCH, 20)
    return "image", {"image_shape": IMAGE}, np.zeros((BATCH, *IMAGE), np.float32)


@contextlib.contextmanager
def as_on_gpu():
    """Inside, what asks where it runs is told that it is a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        for module in list(sys.modules.values()):
            if not getattr(module, "__name__", "").startswith("tfxc."):
                continue
            for name in ("on_gpu", "has_gpu"):
                if name in vars(module):
                    patch.setattr(module, name, lambda *_: True)
        yield


def trace(name, **training):
    """The training step of a model as it is traced on a GPU, a ``ConcreteFunction``.

    Args:
        name: in ``MODELS``.
        training: further settings.
    """
    with as_on_gpu():
        return _traced(MODELS[name], name == "minilm", training)


def _traced(parts, pretrained, training):
    config = parse_config(
        {
            "run": "-",
            "data": {"name": "synthetic", "train": "-"},
            "training": {"batch_size": BATCH, **training},
            **parts,
        }
    )
    kind, sizes, features = _features(config.encoder.name)
    more = {"num_examples": 1000, "num_labels": LABELS, **sizes}
    model = build_model(config, feature_kind=kind, **more)
    if pretrained:
        encoder = Pretrained(FEATURES, architecture=MINILM)
        model = XCModel(encoder, model.head.from_config(model.head.get_config()), model.objective)
        model(features[:2])
    settings = config.training
    optimizer = get_optimizer(settings.optimizer.section())
    schedule = get_schedule(settings.schedule.section(), 100, 10)
    step = TrainStep(model, optimizer, schedule, settings, tf.distribute.get_strategy())
    draw = np.random.default_rng(1)
    batch = {
        "features": features,
        "labels": draw.integers(-1, LABELS, (BATCH, 5)).astype(np.int32),
        "example_index": np.arange(BATCH),
    }
    specs = tf.nest.map_structure(lambda a: tf.TensorSpec(a.shape, a.dtype), batch)
    specs["labels"] = tf.TensorSpec((BATCH, None), tf.int32)
    if kind == "sparse":
        specs["features"]["ids"] = tf.TensorSpec((None,), tf.int32)
        specs["features"]["weights"] = tf.TensorSpec((None,), tf.float32)
    if kind == "tokens":
        specs["features"] = tf.TensorSpec((BATCH, None), tf.int32)
    dataset = tf.data.Dataset.from_generator(lambda: iter([batch]), output_signature=specs)
    return step.traced(iter(dataset))
