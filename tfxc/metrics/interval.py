"""How far a share that was measured on some examples may be from that on all."""

import math

_NORMAL = 1.959963984540054  # standard deviations between which 95 % of a normal variable lie


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share, as P@1, of which each example has all or nothing.

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 1927. Near
    0 and 1 and of few examples it holds what it says, where the normal approximation does not.

    Args:
        share: of the examples, 0 to 1.
        count: number of examples, at least 1.

    Returns:
        Its two ends.

    Example:
        >>> wilson_interval(1.0, 1)
        (0.20654931437723745, 1.0)
    """
    width = _NORMAL**2 / count
    middle = (share + width / 2) / (1 + width)
    half = math.sqrt(share * (1 - share) * width + width**2 / 4) / (1 + width)
    return max(0.0, middle - half), min(1.0, middle + half)
