"""The contract on a model of texts, for techniques that need words in order."""

import tensorflow as tf

from tests.contracts.technique import TechniqueContract, TinyTraining
from tests.techniques.one_step import text_model, texts


class TextTraining(TinyTraining):
    """A training on the same eight texts in each step."""

    def batches(self, _first, steps):
        """Batches of ``steps`` steps."""
        return tf.data.Dataset.from_tensors(texts([*range(4), *range(4)])).repeat(steps)


class TextTechniqueContract(TechniqueContract):
    """Inherit as ``TechniqueContract``."""

    def training(self):
        """A training with the technique."""
        return TextTraining(self.make(), model=text_model(dropout=0.3))
