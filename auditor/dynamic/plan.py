"""Plans a rehearsal: the submitted run, made small, as files, environment and a job.

What is on is decided by the submission's own run: its README's command, shell scripts and the logs'
hyperparameter dump (`program.configuration`). Then sizes shrink (`shrink`), and what a virtual
device with a tiny data set needs is set on top.
"""

import ast
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any

from auditor.dynamic.data import DataSet, make_data
from auditor.dynamic.device.sources import digest
from auditor.dynamic.load_factor import loaded_buckets
from auditor.dynamic.rewriting import Edit, readable, rewrite
from auditor.dynamic.settings import Constant, Settings, Value, find_settings
from auditor.dynamic.shrink import LOCAL, Sizes, factors, ladder, shrink, shrink_all
from auditor.errors import AuditError
from auditor.evidence.claims import read_claims
from auditor.evidence.figures import Claims, Metric
from auditor.program.configuration import read_configuration
from auditor.program.index import Module, Program
from auditor.program.scorers import find_scorers
from auditor.submission.model import Submission

FOLDER = "records/track_10min_16mb/run"  # where the submission's folder lies, below the work folder
DATA = "data"
_OURS = re.compile(
    r"PATH$|DIR$|HOME$|TMPDIR$|LANG$|PYTHON|LD_|OMP_|MKL_|OPENBLAS_|AUDITOR_|CUDA_|NCCL_|TORCH|"
    r"^(?:RANK|LOCAL_RANK|WORLD_SIZE|MASTER_|DATA_PATH|DATA_DIR|TOKENIZER)"
)
_MOST_TEXT = 200_000  # characters of a file in which a command is looked for
_MARGIN = 5e-5  # nats or bits: a claim and a log line that are the same number


@dataclass(frozen=True)
class Change:
    """One setting that differs from the submitted run; `where` is "environment" or a line."""

    name: str
    before: str
    after: str
    where: str


@dataclass(frozen=True)
class RunPlan:
    """Everything that a rehearsal depends on.

    `files` go into the work folder. `tag` is what the logs call the submitted metric, empty where
    they do not tell; `wanted` are the tags of all final metrics of the submitted run.
    """

    script: str
    folder: str
    files: Mapping[str, bytes]
    environment: Mapping[str, str]
    data: DataSet
    sizes: Sizes
    argv: tuple[str, ...] = ()
    changed: Mapping[str, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    tag: str = ""
    wanted: tuple[str, ...] = ()
    world_size: int = 1
    triton: bool = False

    def job(self, capture: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """What `device.main` is to do."""
        return {
            "script": f"{self.folder}/{self.script}",
            "folder": self.folder,
            "argv": list(self.argv),
            "changed": dict(self.changed),
            "absent": list(self.absent),
            "capture": {name: dict(settings) for name, settings in capture.items()},
            "world_size": self.world_size,
            "links": dict(self.links),
            "triton": self.triton,
        }


def plan_run(
    submission: Submission,
    program: Program,
    *,
    sizes: Sizes | None = None,
    overrides: Mapping[str, str] | None = None,
    world_size: int = 1,
) -> RunPlan:
    """The plan of one rehearsal, at the smallest sizes if none are given; `overrides` are set last.
    `world_size` is the number of ranks.

    Raises `AuditError` where there is no script that could run.
    """
    if program.tree is None:
        raise AuditError(f"the script cannot be read: {program.problem}")
    claims = read_claims(submission)
    sizes = sizes or ladder(program.source)[0]
    texts = {module.name: readable(module.source) for module in program.modules}
    found = find_settings(program.tree)
    submitted = read_configuration(submission, claims).environment
    environment = {n: v for n, v in submitted.items() if _is_set(n, v, found)}
    shrunk = _shrunk(found, environment, sizes)
    edits = list(_edits(found, shrunk, sizes, world_size))
    edits += _loads(program, texts["__main__"], sizes)
    changes = [
        Change(name, str(before), str(after), "environment")
        for name, (before, after) in shrunk.items()
        if name in found.environment
    ]
    environment.update({change.name: change.after for change in changes})
    changes += [
        Change(e.constant.name, str(e.constant.value), str(e.value), f"line {e.constant.line}")
        for e in edits
    ]
    text = program.source
    if re.search(r"\b(?:brotli|lzma|zlib|zstandard|lrzip)\b", text):
        changes.append(Change("compression level", "as submitted", "the fastest", "device"))
    vocabulary = _vocabulary(found, environment, sizes)
    data = make_data(vocabulary, validation_tokens=sizes.tokens + 1)
    files = {
        path: f for path, f in data.files.items() if "val_bytes" in text or "bytes" not in path
    }
    environment |= _fixed(found, text, sizes)
    environment |= overrides or {}
    return RunPlan(
        script=_name(submission),
        folder=FOLDER,
        files={
            **{f"{FOLDER}/{path}": file.data for path, file in _shipped(submission)},
            **{f"{DATA}/{path}": contents for path, contents in files.items()},
        },
        environment=environment,
        data=data,
        sizes=sizes,
        argv=tuple(_arguments(submission, found, sizes)),
        changed=_changed(program, texts, edits),
        absent=tuple(_absent(program.modules, program)),
        links=_links(vocabulary),
        changes=tuple(changes),
        tag=_submitted_tag(claims),
        world_size=world_size,
        triton="triton" in text and find_spec("triton") is not None,
        wanted=tuple(dict.fromkeys(m.tag for m in _final_metrics(claims))),
    )


def _arguments(submission: Submission, found: Settings, sizes: Sizes) -> Iterator[str]:
    """The command line of the submitted run, as a shell script or the README gives it, shrunk."""
    command = _command(submission)
    by = factors({c.name.upper(): c.value for c in found.constants if not c.local}, sizes)
    option = ""
    for word in command:
        name, _, value = word.partition("=")
        if word.startswith("--"):
            option = name[2:].replace("-", "_").upper()
        number = _number(value or word)
        new = shrink(option, number, by) if option and number is not None else None
        yield word if new is None else f"{name}={new}" if value else str(new)


def _command(submission: Submission) -> list[str]:
    """The words after the script's name in the first command that names it."""
    name = re.escape(_name(submission).rpartition("/")[2])
    texts = [file for path, file in sorted(submission.files.items()) if path.endswith(".sh")]
    texts += [
        file
        for path, file in sorted(submission.files.items())
        if path.lower().endswith(("readme.md", "readme"))
    ]
    for file in texts:
        text = file.data[:_MOST_TEXT].decode("utf-8", "replace").replace("\\\n", " ")
        match = re.search(rf"(?:python3?|torchrun)\b[^\n]*?{name}[ \t]+(--?[^\n|&;>`]*)", text)
        if match and "$" not in match[1]:
            try:
                return shlex.split(match[1], comments=True)
            except ValueError:
                continue
    return []


def _is_set(name: str, value: str, found: Settings) -> bool:
    """Whether the submitted run set this. A log that holds source has lines such as `args: Any,`,
    which are no settings."""
    if name not in found.environment or _OURS.search(name) or re.search(r"\||,$", value):
        return False
    default = found.environment[name]
    return _number(value) is not None or _number(default) is None


def _name(submission: Submission) -> str:
    for path, file in submission.files.items():
        if file == submission.main:
            return path
    return submission.main.path.rpartition("/")[2]


def _shipped(submission: Submission) -> Iterator[tuple[str, Any]]:
    yield _name(submission), submission.main
    for path, file in submission.files.items():
        if file != submission.main and not path.endswith((".log", ".md", ".png")):
            yield path, file


def _number(value: Value) -> int | float | None:
    if isinstance(value, str):
        try:
            number = float(value.replace("_", ""))
        except ValueError:
            return None
        return int(number) if number.is_integer() else number
    return value


Shrunk = Mapping[str, tuple[int | float | None, int | float]]


def _shrunk(found: Settings, environment: Mapping[str, str], sizes: Sizes) -> Shrunk:
    """Value before and after of every setting that changes, by upper-case name. A class attribute
    `train_seq_len = 1024` is the setting that TRAIN_SEQ_LEN would be."""
    values: dict[str, int | float | None] = {
        constant.name.upper(): constant.value for constant in found.constants if not constant.local
    }
    for name, default in found.environment.items():
        if not _OURS.search(name):
            values[name] = _number(environment.get(name, default))
    return {name: (before, after) for name, before, after in shrink_all(values, sizes)}


def _edits(found: Settings, shrunk: Shrunk, sizes: Sizes, ranks: int) -> Iterator[Edit]:
    """Numbers in the source to change: settings that no variable sets, sizes given in calls, and
    rounds of gradient accumulation, of which one is left."""
    yield from (Edit(constant, ranks) for constant in found.shared if constant.value > ranks)
    known = {name: before for name, (before, _) in shrunk.items() if before is not None}
    by = factors(known, sizes)
    for gate in found.gates:
        new = shrink("GATE_TOKENS", gate.value, by)
        if new is not None and new < gate.value:
            yield Edit(gate, new)
    for constant in found.constants:
        name = constant.name.upper()
        if constant.local and LOCAL.search(name):
            new = shrink(name, constant.value, by)
            if new is not None and new < constant.value:
                yield Edit(constant, new)
        elif not constant.local and name in shrunk and name not in found.environment:
            yield Edit(constant, shrunk[name][1])


def _loads(program: Program, text: str, sizes: Sizes) -> list[Edit]:
    """Table sizes written as literals inside a scorer keep the real run's tokens per bucket."""
    try:
        bindings = find_scorers(replace(program, source=text))
    except RecursionError:
        return []
    found = {}
    for binding in bindings:
        for bucket in binding.buckets if binding.module == "__main__" else ():
            end = bucket.column + len(_literal_at(text, bucket.line, bucket.column))
            place = Constant(
                f"{binding.name} table", bucket.value, bucket.line, bucket.column, bucket.line, end
            )
            new = loaded_buckets(bucket.value, sizes.tokens)
            if end > bucket.column and new != bucket.value:
                found[bucket.line, bucket.column] = Edit(place, new)
    return list(found.values())


def _literal_at(text: str, line: int, column: int) -> str:
    """The bare number at a place; empty where something else stands there."""
    row = text.split("\n")[line - 1].encode()[column:].decode("utf-8", "replace")
    match = re.match(r"\d[\d_]*(?![\w.])", row)
    return match[0] if match else ""


def _vocabulary(found: Settings, environment: Mapping[str, str], sizes: Sizes) -> int:
    """Tokens of the vocabulary: as set, as the script's own default, or as written in the source
    (where that is shrunk, to `sizes.vocabulary`)."""
    written = {c.name.upper(): c.value for c in found.constants if not c.local}
    size = _number(environment.get("VOCAB_SIZE", found.environment.get("VOCAB_SIZE")))
    if "VOCAB_SIZE" not in found.environment:
        size = sizes.vocabulary or written.get("VOCAB_SIZE")
    return int(size) if size is not None and 57 <= size <= 65_535 else sizes.vocabulary or 1024


def _fixed(found: Settings, text: str, sizes: Sizes) -> dict[str, str]:
    """Where the data lie, and a schedule by steps: the counter's seconds are no training time."""
    root = f"/scratch/{DATA}"
    fixed = {
        "DATA_PATH": f"{root}/shards",
        "TOKENIZER_PATH": f"{root}/tokenizer.model",
        "DATA_DIR": f"{root}/",
        "DATASETS_DIR": f"{root}/shards",
    }
    if sizes.by_steps and re.search(r"max_wallclock_seconds\s*(?:>|<=)\s*0", text):
        fixed["MAX_WALLCLOCK_SECONDS"] = "0"
    return {name: value for name, value in fixed.items() if name in found.environment}


def _links(vocabulary: int) -> dict[str, str]:
    """The names under which scripts look for the challenge's data."""
    shards, model = f"/scratch/{DATA}/shards", f"/scratch/{DATA}/tokenizer.model"
    links = {}
    for kind in ("", "_lossless_caps_caseops_v1_reserved", "_caseops"):
        for size in {1024, vocabulary}:
            links[f"{DATA}/datasets/fineweb10B_sp{size}{kind}"] = shards
            links[f"{DATA}/tokenizers/fineweb_{size}_bpe{kind}.model"] = model
    links[f"{FOLDER}/data"] = f"/scratch/{DATA}"
    return links


def _changed(program: Program, texts: Mapping[str, str], edits: list[Edit]) -> dict[str, str]:
    """Sources to run in the place of others: with other numbers, or in the older grammar."""
    changed = {}
    for module in program.modules:
        text = texts[module.name]
        if module.name == "__main__":
            text = rewrite(text, edits)
        if text != module.source:
            changed[digest(module.source)] = text
    return changed


def _absent(modules: Iterable[Module], program: Program) -> Iterator[str]:
    """What is imported at top level, unguarded: modules that neither the device nor this machine
    has, and the names that are taken from modules of which the device has a part."""
    own = {name.partition(".")[0] for name in program.files}
    for module in modules:
        for statement in module.tree.body:
            yield from _parts(statement)
            for name in _imports(statement):
                top = name.partition(".")[0]
                known = top in sys.stdlib_module_names or top in _STOOD_IN or top in own
                if not known and find_spec(top) is None:
                    yield name


# What the virtual device puts in place itself.
_STOOD_IN = frozenset(
    "flash_attn flash_attn_interface flash_attn_3 flash_attn_4 flash_attn3 fa3_fwd_interface "
    "hopper kernels causal_conv1d cutlass_evt_fusion fla liger_kernel mamba_ssm".split()
)


def _parts(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.ImportFrom):
        for module in _imports(statement):
            if module.partition(".")[0] in _STOOD_IN:
                yield from (f"{module}.{alias.name}" for alias in statement.names)


def _imports(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
        yield statement.module


def _final_metrics(claims: Claims) -> list[Metric]:
    """What the logs report after training: lines without a step number, with bits per byte."""
    return [
        metric
        for log in claims.logs
        for metric in log.metrics
        if metric.val_bpb is not None and not re.match(r"(?:\[?step|\d+/)", metric.tag)
    ]


def _submitted_tag(claims: Claims) -> str:
    """The tag of the log line that holds the claimed score, else of the last final line."""
    metrics = _final_metrics(claims)
    claim = claims.submission_json.val_bpb if claims.submission_json else None
    if claim is not None:
        for metric in reversed(metrics):
            if metric.val_bpb is not None and abs(metric.val_bpb - claim.value) <= _MARGIN:
                return metric.tag
    return metrics[-1].tag if metrics else ""


def with_overrides(plan: RunPlan, **environment: str) -> RunPlan:
    """The same run with other variables."""
    return replace(plan, environment={**plan.environment, **environment})
