"""How to call a scorer whose script is not known: its methods, with the role of each parameter."""

from dataclasses import dataclass
from enum import StrEnum

from auditor.program.scorer_calls import Guard


class Role(StrEnum):
    """What a parameter is for."""

    LOGITS = "logits"
    INPUTS = "inputs"
    TARGETS = "targets"
    LENGTHS = "lengths"
    MASK = "mask"
    CONTEXT = "context"  # a record of tokens before each target, made by a function of the script
    TOKENS = "tokens"
    START = "start"
    END = "end"
    RESULT = "result"  # an item of what scoring returned
    VOCABULARY = "vocabulary"
    BUCKETS = "buckets"
    DEVICE = "device"
    SETTING = "setting"  # whatever the script itself passes
    DEFAULT = "default"  # left at its own default
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Parameter:
    """One parameter; `optional` if it has a default. `item` is the place in the scoring method's
    result for `Role.RESULT`; `text` the script's own argument; `maker` the function that makes a
    `Role.CONTEXT`, with the names of its parameters for the stream and for positions in it."""

    name: str
    role: Role
    item: int | None = None
    text: str | None = None
    maker: tuple[str, str, str] | None = None
    optional: bool = False


@dataclass(frozen=True)
class Method:
    """A callable by name, with its parameters after the object itself."""

    name: str
    line: int
    parameters: tuple[Parameter, ...]


@dataclass(frozen=True)
class Bucket:
    """An integer literal that sizes and bounds a hashed table: where it stands and its value."""

    line: int
    column: int
    value: int


@dataclass(frozen=True)
class ScorerBinding:
    """How to call one scorer. `gates` are the counts that its
    code compares with, below which it may do nothing. `called`: something calls it; `guards`: the
    conditions under which the script makes it."""

    name: str
    module: str
    path: str
    line: int
    construct: Method
    score: Method
    count: Method | None
    learn: Method | None
    gates: tuple[int, ...]
    buckets: tuple[Bucket, ...]
    called: bool
    guards: tuple[Guard, ...]

    @property
    def unknown(self) -> tuple[str, ...]:
        """The required parameters whose role stayed open, as `method(parameter)`."""
        methods = [m for m in (self.construct, self.score, self.count, self.learn) if m]
        return tuple(
            f"{m.name}({p.name})" for m in methods for p in m.parameters if p.role == Role.UNKNOWN
        )
