"""Looks post-processors of scores up by name."""

from pathlib import Path

from tfxc.core.declared import check_choice
from tfxc.ops.search.beam_search.post_processors import POST_PROCESSORS, PostProcessor


def post_processor(
    name: "str | PostProcessor", where: str | Path = "post_processor"
) -> "PostProcessor":
    """Returns the rule of that name.

    Args:
        name: one of ``POST_PROCESSORS``, or such a rule itself.
        where: the file or key an error names.

    Returns:
        ``PostProcessor``.

    Raises:
        ConfigError: an unknown name; the message lists the known ones.
    """
    if isinstance(name, PostProcessor):
        return name
    return POST_PROCESSORS[check_choice(str(where), name, POST_PROCESSORS)]
