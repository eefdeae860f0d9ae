"""An XR-Transformer that PECOS has trained as a run: its encoder, its tokeniser and its ranker.

What ``XTransformer.save`` (libpecos 1.2) writes::

    param.json                                 model XTransformer, nr_labels
    text_encoder/param.json                    pred_params.truncate_length
    text_encoder/text_encoder/                 config.json and the weights
    text_encoder/text_tokenizer/               the tokeniser's files
    concat_model/                              an XR-Linear model; absent with only_encoder

The pickled head ``text_model`` and the last matcher's tree are not read: PECOS predicts with the
ranker over ``[X | E / ||E||]``, E being the pooled vectors of the last layer.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

from tfxc.core.config import Config, parse_config
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.storage.reading import read_json
from tfxc.data.store.manifest import Manifest
from tfxc.data.text.joined import JoinedFeatures
from tfxc.data.text.subwords import PretrainedTokens
from tfxc.imports.pecos import WHERE, read_label_counts, vectorizer_of
from tfxc.labels.vocabulary import LabelVocabulary
from tfxc.pretrained.architecture import read_architecture
from tfxc.pretrained.folder import network_folder, read_hub_config
from tfxc.ranker.pecos.model import COPY, write_pecos_model
from tfxc.recipes.xr_transformer.model import EncoderRanker, built_encoder
from tfxc.runs.writer import manifest_of, new_run, split_of

_XLNET = ": PECOS passes it token types that are not built here"
# How PECOS pools the vectors of a text, by the model_type of its encoder.
_POOLING = {"bert": "pooler", "roberta": "pooler", "xlm-roberta": "pooler", "distilbert": "first"}


class Imported(NamedTuple):
    """What ``import_transformer`` found.

    Attributes:
        family: the encoder's model_type.
        sizes: nodes of the ranker's layers; empty if there is no ranker.
        num_terms: features next to the tokens.
    """

    family: str
    sizes: list[int]
    num_terms: int

    def __str__(self) -> str:
        if not self.sizes:
            return f"an encoder ({self.family}) without a ranker: tfxc encode reads it"
        layers = ", ".join(f"{size:,}" for size in self.sizes)
        terms = f"{self.num_terms:,} features and " if self.num_terms else ""
        return f"a ranker on {terms}an encoder ({self.family}), layers of {layers} nodes"


def import_transformer(
    folder: str | Path,
    output: str | Path,
    *,
    names: str | Path | None = None,
    vectorizer: str | Path | None = None,
    train_labels: str | Path | None = None,
) -> Imported:
    """Writes an XR-Transformer of PECOS as a run of recipe ``xr_transformer``.

    Args:
        folder: what PECOS's ``XTransformer.save`` wrote, or its ``text_encoder`` alone.
        output, names, vectorizer, train_labels: see ``tfxc.imports.pecos.import_run``.

    Returns:
        ``Imported``.

    Raises:
        DataError: a file is missing or damaged, or they do not fit together.
        ConfigError: the encoder is none that can be read as PECOS reads it.
        UserError: the output holds something else.

    Example:
        >>> import_transformer("pecos/model", "runs/imported").sizes  # doctest: +SKIP
        [8, 64, 512, 3956]
    """
    model = _Model(folder)
    with new_run(output) as run:
        sizes: list[int] = []
        num_terms = 0
        if model.ranker is None:
            num_labels = model.num_labels
        else:
            tree = write_pecos_model(model.ranker, run.path)
            sizes = tree.sizes
            num_labels = tree.num_labels
            num_terms = model.terms_of(read_json(run / "ranker" / "param.json")["num_features"])
        vocabulary = LabelVocabulary.of(names, num_labels)
        features = model.text_features(num_terms, vectorizer)
        counts, lengths = read_label_counts(train_labels, num_labels)
        manifest = manifest_of(
            "pecos",
            num_labels=num_labels,
            split=split_of(lengths),
            text_features=features,
            feature_kind=features.kind.name,
            num_features=features.num_features,
            vocabulary_size=getattr(features, "vocabulary_size", None),
        )
        config = model.config(output, manifest)
        run.write_config(config)
        run.write_assets(manifest, vocabulary, counts, features)
        run.save_weights(EncoderRanker(built_encoder(config, manifest.dimensions), None))
        run.write_summary({"imported": str(folder), "dev": {}})
    return Imported(model.family, sizes, num_terms)


class _Model:
    """The folder: its settings, checked before anything is written."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        param = read_json(self.folder / "param.json", fix=COPY)
        alone = param["model"] == "TransformerMatcher"
        matcher = self.folder if alone else self.folder / "text_encoder"
        self._path = matcher / "param.json"
        self._matcher = read_json(self._path, fix=COPY)
        ranker = self.folder / "concat_model"
        self.ranker = ranker if not alone and os.path.lexists(ranker) else None
        self._num_labels = param.get("nr_labels")
        network = network_folder(self.folder)
        self.family = read_hub_config(network)["model_type"]
        if self.family not in _POOLING:
            why = _XLNET if self.family == "xlnet" else ""
            raise ConfigError(
                f"an encoder of family {self.family} cannot be imported{why}",
                where=network / "config.json",
                fix=f"import a model with an encoder of family {', '.join(_POOLING)}, or train an "
                "xr_transformer run",
            )
        self._shape = read_architecture(network)

    @property
    def num_labels(self) -> int:
        """Labels of a model without a ranker."""
        count = self._num_labels
        if type(count) is not int or count < 1:
            raise DataError(
                f"the number of labels, nr_labels, is {count!r}",
                where=self.folder / "param.json",
                fix=COPY,
            )
        return count

    def terms_of(self, width: int) -> int:
        """Returns how many features the ranker reads in front of the encoder's vectors."""
        num_terms = width - self._shape.hidden_dim
        if num_terms < 0:
            raise DataError(
                f"the ranker reads {width:,} features, fewer than the "
                f"{self._shape.hidden_dim:,} values of the encoder's vector",
                where=self.ranker,
                fix=COPY,
            )
        return num_terms

    def text_features(self, num_terms: int, vectorizer: str | Path | None) -> Any:
        """Returns tokens, and terms if the ranker has any: given, or made by a vectoriser."""
        settings: dict[str, Any] = {"folder": self._written, "max_length": self._max_length()}
        if not num_terms:
            if vectorizer is not None:
                raise ConfigError(
                    "the model's ranker reads the encoder's vectors only, not the features of a "
                    "vectoriser",
                    where="--vectorizer",
                    fix="leave it out",
                )
            return PretrainedTokens(**settings).fit(())
        terms: dict[str, Any] = {"name": "given", "num_features": num_terms}
        made = None if vectorizer is None else vectorizer_of(vectorizer, num_terms)
        if made is not None:
            terms = {"name": made.name, **made.settings()}
        features = JoinedFeatures({"name": "pretrained", **settings}, terms)
        features.tokens.fit(())
        features.terms = made or features.terms
        return features

    def _max_length(self) -> int:
        """Returns the tokens of a text: as PECOS cuts it, else the encoder's positions."""
        length = (self._matcher.get("pred_params") or {}).get("truncate_length")
        if length is None:
            return self._shape.max_positions
        if type(length) is not int:
            raise DataError(
                f"truncate_length is {length!r}, not an integer", where=self._path, fix=COPY
            )
        return length

    @property
    def _written(self) -> str:
        """The folder as the run's config names it: a training may start from its encoder."""
        return os.path.abspath(self.folder)

    def config(self, output: str | Path, manifest: Manifest) -> Config:
        """Returns the run's ``Config``."""
        pooling = _POOLING[self.family]
        recipe = {"name": "xr_transformer", **({} if self.ranker else {"only_encoder": True})}
        data = {"name": "pecos", "train": "unknown", "where": WHERE}
        return parse_config(
            {
                "run": str(output),
                "data": {**data, "text_features": manifest.text_features},
                "encoder": {"name": "pretrained", "folder": self._written, "pooling": pooling},
                "head": {"name": "tree"},
                "objective": {"name": "squared_hinge", "weighted": True},
                "recipe": recipe,
            }
        )
