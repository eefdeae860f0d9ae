"""What annotations say of arguments: types with bounds, ``beam: Count = 10``, and options.

They stand apart from what checks them, so that the help of a command need not import it.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

#: The kinds of methods.
KINDS = ("encoder", "head", "objective", "technique", "recipe")

Count = Annotated[int, Ge(1)]
Natural = Annotated[int, Ge(0)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
ShareAboveZero = Annotated[float, Gt(0), Le(1)]
ShareBelowOne = Annotated[float, Ge(0), Lt(1)]


@dataclasses.dataclass(frozen=True)
class Option:
    """What an annotation says of an option besides its type: ``Annotated[str, Option("FILE")]``.

    Attributes:
        metavar: what stands for the value in the help; None means a word for its type.
        name: of the option; None means ``--`` and the name of the field.
        positional: whether it is an argument without a name; with ``name``, it is both.
        first: whether its value may also stand before all others, without its name.
        repeated: whether a list is given as the option several times; one of words, as words after
            it; else it is one text, with commas.
        words: see ``repeated``; of a tuple, as many words as it has items.
        spans: whether a list of integers is given as e.g. 0-2,5.
        excludes: options of the same text exclude each other; if it ends in ``!``, one is needed.
        read: makes the value of the text; None means by the type.
        alone: the value where the option stands without one; None means that it needs one.
        remote: whether the value may be an address that whoever reads it copies.
        mirror: of a path that may be an address; the command gets that of a copy, which it only
            ``reads``, also ``writes``, or ``trains`` in, so that the address follows meanwhile.
        hidden: whether it is no option: only Python sets it.
    """

    metavar: str | None = None
    name: str | None = None
    positional: bool = False
    first: bool = False
    repeated: bool = False
    words: bool = False
    spans: bool = False
    excludes: str | None = None
    read: Callable[[str], Any] | None = None
    alone: Any = None
    remote: bool = False
    mirror: Literal["reads", "writes", "trains"] | None = None
    hidden: bool = False
