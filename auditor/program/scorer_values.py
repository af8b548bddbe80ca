"""What the walk through a scorer's code knows of a value, and what it notes of its uses."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto


class Use(Enum):
    """What a labelled value was seen doing."""

    DISTRIBUTION = auto()  # goes into softmax, log_softmax, logsumexp or cross_entropy
    PICK = auto()  # picks one entry of such a distribution
    INDEX = auto()  # is (part of) the index of any table
    INDEXED = auto()  # is itself looked up in by index
    COUNT = auto()  # is (part of) the index at which the object's own state is changed
    BOOLEAN = auto()  # is used as a mask
    LENGTH = auto()  # bounds a slice, is compared, iterated or measured
    DIMENSION = auto()  # sizes a tensor or array
    NORMALISER = auto()  # stands in a logarithm or is scaled by a constant, as in c + 0.1 * V
    MODULUS = auto()  # bounds a hash, by % or &
    DEVICE = auto()  # says where a tensor lives


@dataclass(frozen=True)
class Value:
    """`direct`: labels that this value is a view or arithmetic of. `normalised`: labels that it is
    a normalised function of. `state`: it lies within the object's own state. `kinds`: the classes
    of the script that it may be an instance of."""

    direct: frozenset[str] = frozenset()
    normalised: frozenset[str] = frozenset()
    state: bool = False
    kinds: frozenset[str] = frozenset()

    def __or__(self, other: "Value") -> "Value":
        return Value(
            self.direct | other.direct,
            self.normalised | other.normalised,
            self.state or other.state,
            self.kinds | other.kinds,
        )

    @property
    def known(self) -> bool:
        """Whether anything is known of it."""
        return bool(self.direct or self.normalised or self.state or self.kinds)


NOTHING = Value()


def union(values: Iterable[Value]) -> Value:
    """Everything that is known of any of them."""
    result = NOTHING
    for value in values:
        result |= value
    return result
