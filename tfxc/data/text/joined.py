"""Texts to lists of token ids and to bags of terms at once, for methods that need both."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import scipy.sparse

from tfxc.core.declared import checked
from tfxc.core.errors import DataError
from tfxc.data.examples.kinds import JOINED
from tfxc.data.text.base import COPY_AGAIN, build_of, fitted, load_of, saving
from tfxc.data.text.given import GivenTerms
from tfxc.data.text.names import TERMS, TOKENS
from tfxc.data.text.tokens import TokenRows

if TYPE_CHECKING:
    from tfxc.ops.text.joined import JoinedTexts, TextsWithFeatures


_KINDS: dict[str, Mapping[str, type[Any]]] = {"tokens": TOKENS, "terms": TERMS}


@dataclasses.dataclass(frozen=True)
class JoinedRows:
    """The same texts twice.

    Attributes:
        terms: float32 CSR matrix (n, num_features).
        tokens: ``TokenRows`` of n texts.
    """

    terms: scipy.sparse.csr_matrix
    tokens: TokenRows

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and width of the bags."""
        return self.terms.shape


class JoinedFeatures:
    """A list of token ids and a bag of terms of each text: the results of its two parts.

    Both parts learn from one reading of the texts. Encoders of tokens read the one, encoders of
    bags the other.

    Args:
        tokens: config section of ``characters``, ``words`` or ``pretrained``.
        terms: config section of ``tfidf``, ``pecos_tfidf`` or ``hashing``, or ``{"name": "given"}``
            for features that the data have next to the texts.

    Attributes:
        tokens, terms: the two parts.
        num_features: width of the bags; None before ``fit``.
        vocabulary_size: number of token ids; None before ``fit``.
        given: the ``GivenTerms`` if that is what the terms are, else None.
        num_truncated: texts whose tokens ``transform`` has cut so far.

    Raises:
        ConfigError: a part is missing or of no such kind, or an argument of it is wrong.

    Example:
        >>> parts = {"tokens": {"name": "words", "min_count": 1}, "terms": {"name": "tfidf"}}
        >>> joined = JoinedFeatures(**parts).fit([["red fox", "red hen"]])
        >>> rows = joined.transform(["hen hen"])
        >>> rows.tokens.tokens.tolist(), rows.terms.toarray().tolist()
        ([3, 3], [[0.0, 1.0, 0.0]])
    """

    name = "joined"
    kind = JOINED

    @checked
    def __init__(self, tokens: Mapping[str, Any], terms: Mapping[str, Any]) -> None:
        self.tokens = build_of(TOKENS, tokens, "data.text_features.tokens")
        self.terms = build_of(TERMS, terms, "data.text_features.terms")

    @property
    def given(self) -> GivenTerms | None:
        """See the class."""
        return self.terms if isinstance(self.terms, GivenTerms) else None

    @property
    def num_features(self) -> int | None:
        """See the class."""
        return self.terms.num_features

    @property
    def vocabulary_size(self) -> int | None:
        """See the class."""
        return self.tokens.num_features

    @property
    def num_truncated(self) -> int:
        """See the class."""
        return self.tokens.num_truncated

    def settings(self) -> dict[str, dict[str, Any]]:
        """Returns the constructor's arguments as a dict."""
        return {name: {"name": part.name, **part.settings()} for name, part in self.parts.items()}

    def fit(self, text_lists: Iterable[Sequence[str]]) -> "JoinedFeatures":
        """Fits both parts, see ``tfxc.data.text.base.fitted``; returns ``self``.

        Raises:
            ConfigError, DataError: as the parts; ``where`` says which one.
        """
        return fitted(self, text_lists)

    def transform(
        self, texts: Sequence[str], features: Any = None, where: str | Path = "input"
    ) -> "JoinedRows":
        """Returns the ``JoinedRows`` of a list of texts.

        Args:
            texts: list of n strings.
            features: the texts' features, CSR or array (n, columns), where the terms are given.
            where: the source of the features, for messages.

        Raises:
            ConfigError: ``fit`` has not been called.
            DataError: features are needed, and there are none, or they have other columns.
        """
        if self.given is None:
            terms = self.terms.transform(texts)
        elif features is None:
            raise DataError(
                "the texts have no features next to them, which data.text_features.terms 'given' "
                "needs",
                where=where,
                fix="name their file with --features or in the reader's option features",
            )
        else:
            terms = self.given.rows(features, where)
        return JoinedRows(terms, self.tokens.transform(texts))

    def graph(self, folder: Path) -> "JoinedTexts | TextsWithFeatures":
        """Returns what turns texts into the same features in a graph; see ``TextFeatures.graph``.

        Where the terms are given, it is a function of the texts and of a bag's tensors.
        """
        from tfxc.ops.text.joined import JoinedTexts, TextsWithFeatures

        if self.given is not None:
            return TextsWithFeatures(self.tokens.graph(folder / "tokens"))
        return JoinedTexts(**{name: part.graph(folder / name) for name, part in self.parts.items()})

    def save(self, folder: str | Path) -> None:
        """Writes ``features.json`` and the parts, in the folders ``tokens`` and ``terms``.

        The folder is written atomically and replaces an existing one.

        Raises:
            ConfigError: ``fit`` has not been called.
            UserError: the folder cannot be written.
        """
        with saving(folder, self.name, self.settings()) as scratch:
            for name, part in self.parts.items():
                part.save(scratch / name)

    def _load(self, folder: Path) -> None:
        for name, part in self.parts.items():
            loaded = load_of(_KINDS[name], folder / name)
            if (loaded.name, loaded.settings()) != (part.name, part.settings()):
                raise DataError(
                    f"these are not the {name} that {folder / 'features.json'} describes",
                    where=folder / name / "features.json",
                    fix=COPY_AGAIN,
                )
            setattr(self, name, loaded)

    @property
    def parts(self) -> dict[str, Any]:
        """The two parts by name."""
        return {"tokens": self.tokens, "terms": self.terms}
