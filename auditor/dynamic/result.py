"""What the mass probe found, as data: rules and reports read it without loading the probe."""

import math
from dataclasses import dataclass
from functools import cached_property

from auditor.dynamic.witness import Witness

TOLERANCE = 1e-3  # float32 losses of 1,024 targets sum to 1 within about 1e-5


@dataclass(frozen=True)
class Position:
    """One measured position. `nll[v]` is the loss in nats if the target were v; `target` is the
    true one; `neural_nll` the stand-in model's own loss for it."""

    row: int
    column: int
    target: int
    neural_nll: float
    nll: tuple[float, ...]

    @cached_property
    def mass(self) -> float:
        """Sum of exp(-nll) over the vocabulary, rounded once; infinite where an nll is so low."""
        try:
            return math.fsum(math.exp(-loss) for loss in self.nll)
        except OverflowError:
            return math.inf

    @property
    def free_bits(self) -> float:
        """log2 of the mass: what the scorer takes here without paying."""
        return math.log2(self.mass) if self.mass > 0 else -math.inf


@dataclass(frozen=True)
class ScorerMass:
    """What the probe says of one scorer: class `name`, scoring method `method` at `line`.

    `problem` tells why it is not audited, or is None. `off` tells which condition keeps the script
    from using it as it is configured, or is None. `shrunk` holds (line, value written, value used).
    """

    name: str
    method: str
    path: str
    line: int
    positions: tuple[Position, ...] = ()
    problem: str | None = None
    off: str | None = None
    shrunk: tuple[tuple[int, int, int], ...] = ()
    witness: Witness | None = None

    @property
    def masses(self) -> tuple[float, ...]:
        """The mass at each position."""
        return tuple(p.mass for p in self.positions)

    @property
    def highest(self) -> float:
        """The greatest mass."""
        return max(self.masses)

    @property
    def lowest(self) -> float:
        """The least mass."""
        return min(self.masses)

    @property
    def mean_free_bits(self) -> float:
        """Mean log2 of the mass over the positions."""
        return math.fsum(p.free_bits for p in self.positions) / len(self.positions)

    @property
    def mean_nll(self) -> float:
        """Mean loss of the true targets as the scorer reports it, in nats."""
        return math.fsum(p.nll[p.target] for p in self.positions) / len(self.positions)

    @property
    def mean_honest_nll(self) -> float:
        """The same after dividing by the mass, in nats."""
        return self.mean_nll + self.mean_free_bits * math.log(2)

    @property
    def mean_neural_nll(self) -> float:
        """Mean loss of the stand-in model alone, in nats."""
        return math.fsum(p.neural_nll for p in self.positions) / len(self.positions)

    @property
    def exceeds(self) -> bool:
        """Some position takes more than there is."""
        return self.problem is None and self.highest > 1 + TOLERANCE

    @property
    def falls_short(self) -> bool:
        """Some position gives bits away, and none takes any."""
        return self.problem is None and not self.exceeds and self.lowest < 1 - TOLERANCE


@dataclass(frozen=True)
class MassResult:
    """Every scorer of a submission. `problem` tells why there is none to speak of, or is None."""

    scorers: tuple[ScorerMass, ...] = ()
    problem: str | None = None
