"""A trained model made smaller: without some heads, inner units and tokens."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.data.examples.kinds import TOKENS
from tfxc.encoders.bases.repeated import Repeated
from tfxc.model import build_model
from tfxc.recipes.prune.importance import Importance, shrink
from tfxc.recipes.prune.layer_slices import layer_sizes, sliced, smaller_architecture

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.data.text.base import TextFeatures
    from tfxc.encoders.bases.tokens import TokenEncoder
    from tfxc.model import XCModel


def check_model(model: "XCModel", where: str) -> None:
    """Refuses a model that is several in one, or whose weights are stored apart.

    Raises:
        ConfigError: it is one of these.
    """
    if isinstance(model.encoder, Repeated):
        raise ConfigError(
            "the run has several networks, but only one can be pruned",
            where=where,
            fix="train one, with recipe 'fit' and a shared trunk",
        )
    if model.head.reads_label_texts:
        raise ConfigError(
            "head 'label_text' reads texts of labels, and cannot be pruned",
            where=where,
            fix="train a smaller encoder instead, e.g. by recipe 'distill' with another head",
        )
    if model.head.sharded_tables:
        raise ConfigError(
            "the head is sharded over replicas",
            where=where,
            fix="train without head.sharded and head.update",
        )


def check_targets(
    encoder: "TokenEncoder",
    num_heads: int | None,
    feed_forward_dim: int | None,
    uneven: bool,
    where: str,
) -> None:
    """Refuses sizes that the encoder cannot be pruned to.

    Args:
        encoder: a built encoder.
        num_heads, feed_forward_dim: of a layer at the end, or None.
        uneven: whether ``num_heads`` is a mean over the layers.
        where: the run, for messages.

    Raises:
        ConfigError: the encoder has no heads, or fewer than are to be left.
    """
    if num_heads is None and feed_forward_dim is None:
        return
    if encoder.gates is None:
        raise ConfigError(
            f"the encoder, a {type(encoder).__name__}, has no heads and inner units, as "
            "'pretrained' and 'transformer' have",
            where=where,
            fix="leave num_heads and feed_forward_dim out; its vocabulary can be pruned",
        )
    heads, units = zip(*layer_sizes(encoder), strict=True)
    most_heads = sum(heads) // len(heads) if uneven else min(heads)
    for name, target, most in (
        ("num_heads", num_heads, most_heads),
        ("feed_forward_dim", feed_forward_dim, min(units)),
    ):
        if target is not None and target > most:
            raise ConfigError(
                f"must be at most {most:,}, as many as each layer of the source has, not "
                f"{target:,}",
                where=f"recipe.{name}",
                fix=f"give 1 to {most:,}",
            )


def choose_kept(
    model: "XCModel",
    batches: Sequence[Mapping[str, Any]],
    num_heads: int | None,
    feed_forward_dim: int | None,
    iters: int,
    uneven: bool,
    log: Callable[[str], Any] = print,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Chooses the heads and inner units that stay, in ``iters`` steps.

    Each step measures the importance again, without what is gone, and takes the same share of what
    is to go.

    Args:
        model: ``XCModel`` whose encoder has ``gates``.
        batches: see ``Importance``.
        num_heads, feed_forward_dim: of a layer at the end; None leaves them as they are.
        iters: number of steps.
        uneven: whether the layers may end with different numbers of heads.
        log: called with a line of text after each step.

    Returns:
        For each layer with weights of its own a pair of ascending arrays, heads and units.
    """
    sizes = layer_sizes(model.encoder)
    masks: list[tuple[np.ndarray, np.ndarray]]
    masks = [(np.ones(heads, bool), np.ones(units, bool)) for heads, units in sizes]
    all_heads = sum(heads for heads, _ in sizes)
    importance = Importance(model, batches)
    for step in range(1, iters + 1):
        targets = (num_heads or 0, feed_forward_dim or sizes[0][1])
        smaller = shrink(masks, importance(masks), 1 - step / iters, targets, uneven)
        if num_heads is None:  # all heads stay
            smaller = [(old[0], new[1]) for old, new in zip(masks, smaller, strict=True)]
        masks = smaller
        heads_left = sum(int(heads.sum()) for heads, _ in masks)
        log(
            f"pruning, step {step} of {iters}: {heads_left:,} of {all_heads:,} heads, "
            f"{int(masks[0][1].sum()):,} of {sizes[0][1]:,} inner units per layer"
        )
    return [(np.flatnonzero(heads), np.flatnonzero(units)) for heads, units in masks]


def smaller_model(
    model: "XCModel",
    config: "Config",
    dimensions: Mapping[str, Any],
    kept: Sequence[tuple[np.ndarray, np.ndarray]] | None = None,
    rows: np.ndarray | None = None,
) -> "XCModel":
    """Makes a new model with what is left of another's weights.

    Args:
        model: the trained one.
        config: ``Config``, with the encoder and head of the trained one.
        dimensions: what the data decides, keyword arguments of ``build_model``.
        kept: what ``choose_kept`` returns, or None for all.
        rows: for each token of the new vocabulary its row in the old table, or None.

    Raises:
        ConfigError: the two do not fit.
    """
    old = model.encoder
    if kept is not None:
        dimensions = {**dimensions, "architecture": smaller_architecture(old, kept)}
    new = build_model(config, **dimensions)
    values = {}
    for number, (heads, units) in enumerate(kept or []):
        for name, weight in old.layers[number].items():
            values[id(weight)] = sliced(name, weight.numpy(), heads, units, old.head_width)
    if rows is not None:
        values[id(old.embedding)] = old.embedding.numpy()[rows]
    for part in ("encoder", "head"):
        pairs = zip(getattr(model, part).variables, getattr(new, part).variables, strict=True)
        for before, after in pairs:
            left = values[id(before)] if id(before) in values else before.numpy()
            if tuple(left.shape) != tuple(after.shape):
                raise ConfigError(
                    f"the weight {after.path} has the shape {tuple(left.shape)} in the source and "
                    f"{tuple(after.shape)} in the smaller model",
                    where="recipe.source",
                    fix="prune with the data the run was trained on",
                )
            after.assign(left)
    return new


def vocabulary_rows(
    old: "TextFeatures | None", new: "TextFeatures | None", where: str
) -> np.ndarray | None:
    """Returns for each token of a smaller vocabulary its id in the larger one.

    Args:
        old, new: fitted token features, or None.
        where: the run, for messages.

    Returns:
        int64, or None if the vocabularies are the same.

    Raises:
        ConfigError: the new vocabulary is not part of the old one.
    """
    if old is None or new is None or old.kind is not TOKENS:
        return None
    before = old.vocabulary()
    after = new.vocabulary()
    if before == after:
        return None
    assert before is not None and after is not None
    number = {token: place for place, token in enumerate(before)} | {before[0]: 0}
    missing = [token for token in after if token not in number]
    if missing:
        raise ConfigError(
            f"{len(missing):,} tokens are not in the source's vocabulary, such as {missing[0]!r}",
            where=where,
            fix="use the source's data, with a min_count at least as large",
        )
    return np.array([number[token] for token in after])
