"""The mass probe: does a scorer's probability sum to one over the vocabulary?

The NLL of every possible target at a position, everything before and beside it unchanged, gives the
sum of exp(-NLL): the *mass*. An honest code has at most 1 (Kraft). Above 1 the score takes
`log2(mass)` bits at that position without paying for them: *free bits*.

How it is measured
1. The scorer is found by dataflow (`program.scorers`) and constructed at a small vocabulary.
2. It is used as an evaluation uses it, past its gates: chunks are scored, its weights updated, the
   chunk counted. Hashed tables keep the real run's load of tokens per bucket, because collisions
   are what breaks them: `shrunk` lists each literal that was changed for that.
3. At several positions away from the tail, every target is tried from the same state.

What makes a number count: two runs of the same call agree bit for bit, the NLL really changes with
the target, and the excess is beyond float error. Otherwise the scorer is "not audited", with the
reason, and never passes. The scorer runs in the sandbox; sums are worked out here, but the NLLs
come from the audited process.
"""

import ast
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import auditor
from auditor.dynamic import sandbox
from auditor.dynamic.limits import Limits
from auditor.dynamic.load_factor import loaded_buckets
from auditor.dynamic.result import MassResult, Position, ScorerMass
from auditor.dynamic.witness import Witness, pack_files
from auditor.errors import AuditError
from auditor.evidence.claims import read_claims
from auditor.program.configuration import read_configuration
from auditor.program.index import Program
from auditor.program.scorer_binding import Role, ScorerBinding
from auditor.program.scorers import find_scorers
from auditor.program.source import parse
from auditor.submission.model import Submission
from auditor.submission.unpack import Unpacked

_SEED = 700
_VOCABULARY = 64
_DEFAULT_VOCABULARY = 1024  # the challenge's own, where a script takes no other
_ROWS, _LENGTH = 4, 48  # no two sizes alike, so that a mistaken shape cannot pass
_CHUNK = 10 * _ROWS * _LENGTH
_WARM, _MOST_WARM = 7 * _CHUNK, 63 * _CHUNK
_OURS = re.compile(r"PATH$|HOME$|TMPDIR$|LANG$|PYTHON|LD_|OMP_|MKL_|OPENBLAS_|AUDITOR_")
_PACKAGE = "/opt/audit"  # where the child's package is mounted
_LIMITS = Limits(seconds=180, cpu_seconds=180)


def probe(submission: Submission, unpacked: Unpacked, program: Program) -> MassResult:  # noqa: ARG001
    """Measures every scorer of `program` that its code calls, as the submitted run configured it.

    Raises `SandboxUnavailable` where nothing can be isolated, `AuditError` where torch is missing;
    whatever the script does becomes a `problem`.
    """
    if program.tree is None:
        return MassResult(problem=f"the script cannot be read: {program.problem}")
    program = _readable(program)
    try:
        bindings = find_scorers(program)
    except RecursionError:
        return MassResult(problem="the script is nested too deeply to be followed")
    if not bindings:
        return MassResult(problem="no class keeps counts and turns logits and targets into losses")
    sandbox.require()
    _require_libraries()
    configuration = read_configuration(submission, read_claims(submission))
    environment = {n: v for n, v in configuration.environment.items() if not _OURS.match(n)}
    return MassResult(tuple(_probe_scorer(program, b, environment) for b in bindings))


def _require_libraries() -> None:
    """Raises `AuditError` where what scorers are written with is missing."""
    missing = [name for name in ("numpy", "torch") if find_spec(name) is None]
    if missing:
        raise AuditError(
            f"the dynamic audit needs {' and '.join(missing)}: "
            "pip install 'parameter-golf-proof[dynamic]', or audit without --dynamic"
        )


def run_task(files: Mapping[str, bytes], task: Mapping[str, Any]) -> dict[str, Any]:
    """Runs one measurement in the sandbox and returns the child's answer.

    Raises `SandboxUnavailable`, or `AuditError` where the child was stopped or answered nothing
    that can be read.
    """
    box = sandbox.Box(
        inputs={**files, "task.json": json.dumps(task).encode()},
        mounts={f"{_PACKAGE}/auditor": Path(auditor.__file__).parent},
        environment={**task["environment"], "PYTHONPATH": _PACKAGE},
    )
    done = sandbox.run([*sandbox.python(), "-m", "auditor.dynamic.child.mass"], box, _LIMITS)
    if not done.ok:
        raise AuditError(done.complaint())
    try:
        answer = json.loads(done.result)
    except ValueError:
        raise AuditError("the script ended without an answer") from None
    if not isinstance(answer, dict):
        raise AuditError("the script answered something else")
    return answer


def read_positions(answer: Mapping[str, Any], vocabulary: int) -> tuple[Position, ...]:
    """The positions of an answer. Raises `AuditError` for anything but one loss per target."""
    try:
        loss = _loss_scale([float(value) for value in answer["cold"]])
        positions = tuple(
            Position(
                int(p["row"]),
                int(p["column"]),
                int(p["target"]),
                float(p["neural_nll"]),
                tuple(loss(float(value)) for value in p["nll"]),
            )
            for p in answer["positions"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise AuditError(f"the answer is not a measurement: {error!r}") from None
    if not positions or any(len(p.nll) != vocabulary for p in positions):
        raise AuditError("the answer does not hold one loss per target")
    if any(math.isnan(loss) for p in positions for loss in p.nll):
        raise AuditError("some losses are not numbers")
    return positions


def _loss_scale(cold: Sequence[float]) -> Callable[[float], float]:
    """How to read a scorer's values as losses: some return log-probabilities or probabilities.

    Judged by its values for every target before it has counted anything, when no fault of its
    tables can show: a loss is above 1 for most of so many targets.
    """
    if all(value <= 0 for value in cold):
        return lambda value: -value
    if all(0 <= value <= 1 for value in cold):
        return lambda value: -math.log(value) if value > 0 else math.inf
    return lambda value: value


def _probe_scorer(
    program: Program, binding: ScorerBinding, environment: Mapping[str, str]
) -> ScorerMass:
    result = ScorerMass(binding.name, binding.score.name, binding.path, binding.score.line)
    if not binding.called:
        return replace(result, problem="nothing in the script calls it")
    if binding.unknown:
        return replace(result, problem=f"no role found for {', '.join(binding.unknown)}")
    files, task = _files(program), _task(program, binding, environment)
    result = replace(result, shrunk=tuple((r[0], r[2], r[3]) for r in task["literals"]))
    try:
        answer = run_task(files, task)
        result = replace(result, off=answer.get("off"))
        if "unbound" in answer:
            raise AuditError(str(answer["unbound"]))
        positions = read_positions(answer, task["recipe"]["vocabulary"])
        _check_controls(answer, positions)
    except sandbox.SandboxUnavailable:
        raise
    except AuditError as error:
        return replace(result, problem=f"{binding.name}.{binding.score.name}: {error}")
    witness = Witness(program.path, pack_files(files), task, answer)
    return replace(result, positions=positions, witness=witness)


def _check_controls(answer: Mapping[str, Any], positions: Sequence[Position]) -> None:
    """The null controls; raises `AuditError` where one fails."""
    if answer.get("repeats") is not True:
        raise AuditError("the same call gives different losses, so no sum means anything")
    if answer.get("state") != answer.get("state_after"):
        raise AuditError("scoring changes state that could not be put back")
    # Once warm, a scorer may well have stopped to look at the target; before, none can.
    if len(set(answer.get("cold", ()))) < 2:
        raise AuditError("its loss does not change with the target, so the call was not understood")
    if all(math.isclose(p.nll[p.target], p.neural_nll, rel_tol=1e-5) for p in positions):
        raise AuditError("its counts never changed a loss, so only the model was measured")


def _readable(program: Program) -> Program:
    """The program in a grammar that this interpreter has, if its own is newer."""
    try:
        ast.parse(program.source.removeprefix("\ufeff"))
    except (SyntaxError, ValueError):
        assert program.tree is not None
        source = ast.unparse(program.tree)
        return replace(program, source=source, tree=parse(source).tree)
    return program


def _files(program: Program) -> dict[str, bytes]:
    """The main script and the modules beside it that it imports, by path in the working folder."""
    files = {"script.py": program.source.encode()}
    for name, module in program.siblings.items():
        files[_place(name, module.path)] = module.source.encode()
    return files


def _place(name: str, path: str) -> str:
    folder = name.replace(".", "/")
    return f"{folder}/__init__.py" if path.endswith("__init__.py") else f"{folder}.py"


def _task(
    program: Program, binding: ScorerBinding, environment: Mapping[str, str]
) -> dict[str, Any]:
    """What the child is to do; it holds everything that the numbers depend on."""
    sized = any(p.role == Role.VOCABULARY for p in binding.construct.parameters)
    warm = _WARM
    for gate in binding.gates:  # past every gate that can be passed in reasonable time
        needed = -(-gate * 5 // 4 // _CHUNK) * _CHUNK
        warm = max(warm, needed) if needed <= _MOST_WARM else warm
    module = program.siblings.get(binding.module)
    script = _place(binding.module, module.path) if module else "script.py"
    count = 8 if sized else 2
    return {
        "script": script,
        "environment": dict(environment),
        "binding": asdict(binding),
        "literals": [
            [b.line, b.column, b.value, loaded_buckets(b.value, warm)] for b in binding.buckets
        ],
        "recipe": {
            "seed": _SEED,
            "vocabulary": _VOCABULARY if sized else _DEFAULT_VOCABULARY,
            "rows": _ROWS,
            "length": _LENGTH,
            "chunk": _CHUNK,
            "warm": warm,
        },
        "positions": [[k % _ROWS, 8 + 5 * k] for k in range(count)],
    }
