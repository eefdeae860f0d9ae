"""The repetitions of a run, of which one at a time is in memory."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.inference.streamed import StreamedModel
from tfxc.model import XCModel, build_model, make_components
from tfxc.ops.tables.large_weights import without_starts

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.runs.folder import RunFolder
    from tfxc.runs.loaded import LoadedRun


class StreamedRepetitions(StreamedModel):
    """Scores labels by the buckets of each repetition, as the model of all of them does.

    Args:
        loaded: the whole run.
        numbers: of the repetitions that count.
        folders: of these, whose weights were checked.
    """

    def __init__(
        self, loaded: "LoadedRun", numbers: Sequence[int], folders: "Sequence[RunFolder]"
    ) -> None:
        with without_starts():
            self.network = build_model(loaded.config, **loaded.dimensions, repetition=0)
        # Encoders of which no weight is made: they say what each of them hashes with.
        encoder, head, objective = make_components(separate(loaded.config), **loaded.dimensions)
        self._hashes = [encoder.encoders[number].hash_seeds for number in numbers]
        self._folders = list(folders)
        whole = XCModel(self.network.encoder, head, objective)
        super().__init__(whole, len(self._folders), "repetition")

    def load(self, number: int) -> None:
        """Loads its weights, and makes the encoder hash as that repetition's."""
        self._folders[number].load_weights(self.network, check=False)
        self.network.encoder.hash_with(self._hashes[number])

    def scores_of(self, features: Mapping[str, Any] | np.ndarray) -> np.ndarray:
        """Returns float32 (batch, B), scores of the buckets."""
        return self.network.search_scores(features)[:, 0]

    def joined(self, scores: list[np.ndarray]) -> np.ndarray:
        """Returns float32 (batch, repetitions that count, B)."""
        return np.stack(scores, axis=1)

    def find_in_scores(
        self, scores: np.ndarray, k: int, probabilities: bool, method: str | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Searches as the head does natively."""
        return self.head.search_top_k(scores, k, method or self.search_methods[0])


def separate(config: "Config") -> "Config":
    """Returns a config whose repetitions have an encoder each."""
    assert config.head is not None, "``check_config`` has asked for one"
    head = type(config.head).model_validate({**config.head.section(), "trunk": "separate"})
    return config.model_copy(update={"head": head})
