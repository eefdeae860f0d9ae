"""What the data determine in a config's head, encoder and objective."""

import functools
from typing import TYPE_CHECKING, Any

from tfxc.core import registry
from tfxc.data.sources.providers import PROVIDERS, TrainingData

if TYPE_CHECKING:
    from tfxc.core.settings import Config
    from tfxc.data.sources.base import Source


_KINDS = ("head", "encoder", "objective")


def data_dependent_arguments(
    config: "Config", source: "Source", *, feature_kind: str = "sparse", **known: Any
) -> dict[str, Any]:
    """Returns the arguments of ``build_model`` that providers find, see
    ``tfxc.data.sources.providers``.

    Args:
        config: ``Config``.
        source: the training split, a ``Source``.
        feature_kind, known: as for ``build_model``; no provider is requested what is known.

    Returns:
        Dict of the values by argument.

    Raises:
        ConfigError: an argument does not fit.
    """

    @functools.cache
    def parts() -> dict[str, Any]:
        from tfxc.model import make_components

        encoder, head, objective = make_components(config, feature_kind=feature_kind, **known)
        return {"head": head, "encoder": encoder, "objective": objective}

    def part(kind: str) -> Any:
        return parts()[kind]

    values: dict[str, Any] = {}
    for kind in _KINDS:
        section = getattr(config, kind).section()
        method = registry.get(kind, section["name"])
        settings = registry.arguments(method) | section
        data = TrainingData(source, known, settings, config.seed, functools.partial(part, kind))
        for name in method.data_dependent_arguments:
            provider = method.providers.get(name, PROVIDERS.get(name))
            if provider is not None and name not in known | values:
                value = provider(data)
                if value is not None:
                    values[name] = value
    return values


def resolved(config: "Config", num_labels: int) -> "Config":
    """Returns the config with what its head's rules make of the number of labels.

    Args:
        config: ``Config`` with a head, whose sections are checked.
        num_labels: number of labels.

    Returns:
        A config with the same meaning.
    """
    assert config.head is not None
    section = config.head.section()
    changes = registry.get("head", section["name"]).resolved(section, num_labels)
    return config.model_copy(update={"head": config.head.model_copy(update=changes)})
