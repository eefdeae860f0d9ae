"""A small student and a larger teacher, both stacks of self-attention, and their training."""

import numpy as np
import tensorflow as tf

from tests.contracts.technique import TinyTraining
from tests.techniques.one_step import IDS, NUM_FEATURES, NUM_LABELS, started, texts
from tfxc.encoders.transformer import Transformer
from tfxc.heads.dense import Dense
from tfxc.model import XCModel
from tfxc.objectives.softmax import Softmax
from tfxc.recipes.distill.layer_matching import Matches
from tfxc.recipes.distill.match_settings import read_matches
from tfxc.recipes.distill.objective import Distillation

LOGITS = np.random.default_rng(3).normal(0, 2, (len(IDS), NUM_LABELS)).astype(np.float32)
MATCHES = [
    {"layer_teacher": 2, "layer_student": 1, "loss": "hidden_mse", "projection": "relu"},
    {"layer_teacher": [1, 3], "layer_student": [1, 2], "loss": "nst", "weight": 0.3},
    {"layer_teacher": 3, "layer_student": 2, "loss": "attention_ce"},
]


def model(num_layers, width, seed=0, num_heads=2, **encoder):
    """A model of self-attention."""
    encoder = Transformer(
        NUM_FEATURES, num_layers=num_layers, embedding_dim=width, num_heads=num_heads, seed=seed,
        **encoder,
    )  # fmt: skip
    return started(XCModel(encoder, Dense(NUM_LABELS), Softmax()), texts())


def batch():
    """Four texts of different lengths."""
    return texts()


def distillation(matches, hard_weight=(0.5, 0.5), tempering=None, start_layers=(), body=None):
    """The technique with its teacher's encoder, of three layers."""
    body = body or model(3, 8, seed=1).encoder
    other_matches = Matches(read_matches(matches), lambda: body, start_layers)
    arguments = (hard_weight, (2.0, 2.0), "kl", True, tempering, other_matches)
    return Distillation([lambda index: LOGITS[index]], *arguments), body


class _Training(TinyTraining):
    def batches(self, _first, steps):
        """Batches of ``steps`` steps."""
        return tf.data.Dataset.from_tensors(texts([*range(4), *range(4)])).repeat(steps)


def training(technique=None, width=6):
    """A training of a student of two layers."""
    technique = technique or distillation(MATCHES)[0]
    return _Training(technique, model=model(2, width, dropout=0.2))
