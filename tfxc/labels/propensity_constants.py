"""The constants of the model of propensities, by name; what needs the names needs no NumPy."""

import difflib
from collections.abc import Sequence

from tfxc.core.errors import ConfigError

# (A, B) as the Extreme Classification Repository uses them: "wikipedia" for WikiLSHTC-325K and
# Wikipedia-500K, "amazon" for Amazon-670K and Amazon-3M, "default" for all other sets.
DATASET_CONSTANTS = {"default": (0.55, 1.5), "wikipedia": (0.5, 0.4), "amazon": (0.6, 2.6)}


def propensity_constants(propensity: str | Sequence[float]) -> tuple[float, float]:
    """Returns the pair (A, B) of a name in ``DATASET_CONSTANTS``, or of a pair given as such.

    Raises:
        ConfigError: the name is unknown or it is not a pair.
    """
    if isinstance(propensity, str):
        if propensity not in DATASET_CONSTANTS:
            near = difflib.get_close_matches(propensity, DATASET_CONSTANTS, n=1)
            raise ConfigError(
                f"must be one of {', '.join(DATASET_CONSTANTS)}, or a pair (A, B), not "
                f"{propensity!r}",
                where="propensity",
                fix=f"write {near[0]!r}" if near else 'write "default"',
            )
        return DATASET_CONSTANTS[propensity]
    pair = tuple(propensity)
    if len(pair) != 2:
        raise ConfigError(f"{pair} is not a pair (A, B)", where="propensity")
    return pair
