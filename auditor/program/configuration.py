"""What ran: environment variables of the submitted run, each with the line it is known from.

Weight rises in this order: the script's defaults, the README's command line, shell scripts, the
log's hyperparameter dump, what the command line of the audit sets. A variable for which two places
of equal weight disagree stays unknown, and the script's default holds. Of several commands in one
file, one that switches a feature off says nothing of the others: what any of them runs did run.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from auditor.evidence.figures import Claims
from auditor.finding import Evidence
from auditor.submission.model import SourceFile, Submission

_ASSIGNMENT = re.compile(
    r"(?<![\w$./-])([A-Z][A-Z0-9_]{1,60})=(\"[^\"\n]{0,200}\"|'[^'\n]{0,200}'|[^\s\\`'\";|&)]{0,200})"
)
_COMMAND = re.compile(r"\b(?:torchrun|python3?|accelerate)\b[^\n]{0,400}\.py\b|\btorchrun\b")
_ONLY_ASSIGNED = re.compile(
    r"\s{0,8}(?:(?:export\s{1,4})?[A-Z][A-Z0-9_]{2,60}=\S{0,200}\s{0,4}){0,20}(?:#.{0,300}|\\)?"
)
_TABLE = re.compile(
    r"^\s{0,3}\|\s*`?([A-Z][A-Z0-9_]{3,60})`?\s*\|\s*`?([^|`\n]{1,60}?)`?\s*(?:\||$)"
)
_FENCE = re.compile(r"^\s{0,3}(?:```|~~~)")
_ANNOTATION = re.compile(
    r"(?:int|float|bool|str|bytes|dict|list|tuple|Path|Tensor|(?:torch|nn|np)\.\w{1,30})\b\s?(?:[,=|\[(:]|$)"
)
_DEVICES = re.compile(
    r"(?<!\d)(\d{1,3})\s?[x\u00d7]\s?(?:NVIDIA |Tesla )?(?:[ABHLVT]\d{1,3}|RTX|GTX|MI\d)",
    re.IGNORECASE,
)
_WORD = {"true": "1", "false": "0", "none": ""}
_OFF = {"", "0", "false", "no", "none", "off"}
FINGERPRINT = 60  # characters
# What loggers and launchers set before a line: colours, times, levels, ranks.
_DECORATION = re.compile(
    r"(?:\s|\x1b\[[0-9;]{0,9}m|\[[^\]\n]{1,40}\]:?|\d{4}-\d\d-\d\d[T ]|\d\d?:\d\d:\d\d(?:[.,]\d+)?|"
    r"(?:DEBUG|INFO|WARNING|ERROR)\b|[-:|](?=\s)){1,12}"
)
MAX_DECORATED = 300  # characters of a logged line that are searched for its beginning
MAX_LINES = 20_000  # lines read at either end of a log
MAX_TEXT = 400_000  # characters of a README or shell script that are read


@dataclass(frozen=True)
class Setting:
    """One environment variable as the submitted run had it."""

    value: str
    evidence: Evidence


@dataclass(frozen=True)
class Configuration:
    """The environment of the submitted run, as far as its files tell.

    `printed` holds how the logs' lines begin, sorted: code that prints such a line did run.
    `scores` holds what each log calls the last score that it reports.
    """

    settings: Mapping[str, Setting] = field(default_factory=dict)
    printed: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """Variable to text."""
        return {name: setting.value for name, setting in self.settings.items()}

    def overridden(self, overrides: Mapping[str, str]) -> "Configuration":
        """The same run with other variables; its logs say nothing of a run that was not made."""
        if not overrides:
            return self
        asked = {
            name: Setting(value, Evidence("", 0, f"--set {name}={value}"))
            for name, value in overrides.items()
        }
        return replace(self, settings={**self.settings, **asked}, printed=(), scores=())


def read_configuration(submission: Submission, claims: Claims) -> Configuration:
    """The run configuration, as far as the record folder tells."""
    settings: dict[str, Setting] = {"WORLD_SIZE": _world_size(claims)}
    names = sorted(submission.files)
    for name in names:
        if name.rpartition("/")[2].lower().startswith("readme"):
            settings.update(_agreed(_commands(submission.files[name])))
    for name in names:
        if name.endswith(".sh"):
            settings.update(_agreed(_assignments(submission.files[name])))
    settings.update(_agreed(_logged(claims)))
    last = (log.last_metric for log in claims.logs)
    scores = tuple(metric.tag for metric in last if metric is not None)
    return Configuration(settings, _printed(submission, claims), scores)


def _printed(submission: Submission, claims: Claims) -> tuple[str, ...]:
    found: set[str] = set()
    files = {file.path: file for file in submission.files.values()}
    for log in claims.logs:
        lines = files[log.path].data.decode(log.encoding, errors="replace").splitlines()
        if log.embedded_source is not None:
            first, last = log.embedded_source
            lines = lines[: first - 1] + lines[last:]
        # Of a very long log, the beginning and the end: the end holds the evaluation.
        for line in lines if len(lines) <= MAX_LINES else lines[:MAX_LINES] + lines[-MAX_LINES:]:
            found.add(fingerprint(line))
            found.add(fingerprint(_undecorated(line[:MAX_DECORATED])))
    return tuple(sorted(found))


def _undecorated(line: str) -> str:
    found = _DECORATION.match(line)
    return line[found.end() :] if found else line


def fingerprint(line: str) -> str:
    """The beginning by which a logged line is known again."""
    return line.strip()[:FINGERPRINT]


def _world_size(claims: Claims) -> Setting:
    """The launcher's variable: from a log, the devices that are named, or the record track's."""
    for log in claims.logs:
        if log.world_size is not None:
            return Setting(str(int(log.world_size.value)), log.world_size.evidence)
    named = claims.submission_json.hardware if claims.submission_json is not None else None
    if named is not None and (devices := _DEVICES.search(named.text)):
        return Setting(devices[1], named)
    return Setting("8", Evidence("", 0, "records are run on eight devices"))


def _agreed(found: Iterable[tuple[str, Setting]]) -> dict[str, Setting]:
    settings: dict[str, Setting] = {}
    disputed: set[str] = set()
    for name, setting in found:
        if name in settings and settings[name].value != setting.value:
            disputed.add(name)
        settings.setdefault(name, setting)
    return {name: s for name, s in settings.items() if name not in disputed}


def _commands(file: SourceFile) -> Iterator[tuple[str, Setting]]:
    """Rows of a table of variables; assignments in fenced blocks that start the script, or that
    hold nothing else.
    """
    inside, block, blocks = False, list[tuple[int, str]](), list[tuple[int, str]]()
    for number, line in enumerate(_text(file).splitlines(), 1):
        if _FENCE.match(line):
            if inside and any(_COMMAND.search(text) for _, text in block):
                blocks += block
            elif inside and all(_ONLY_ASSIGNED.fullmatch(text) for _, text in block):
                yield from _in_lines(file.path, block)
            inside, block = not inside, []
        elif inside:
            block.append((number, line))
        elif row := _TABLE.match(line):
            yield row[1], Setting(row[2], Evidence(file.path, number, line.strip()[:200]))
    yield from _in_lines(file.path, blocks)


def _assignments(file: SourceFile) -> Iterator[tuple[str, Setting]]:
    yield from _in_lines(file.path, list(enumerate(_text(file).splitlines(), 1)))


def _in_lines(path: str, lines: list[tuple[int, str]]) -> Iterator[tuple[str, Setting]]:
    """Every assignment, but those that switch off for one of several commands alone."""
    commands = [_of_command(path, command) for command in _split(lines)]
    runs = [settings for runs, settings in commands if runs]
    for is_run, settings in commands:
        for name, setting in settings.items():
            off = setting.value.lower() in _OFF
            if not (is_run and off and any(_is_on(name, other) for other in runs)):
                yield name, setting


def _is_on(name: str, settings: Mapping[str, Setting]) -> bool:
    return name not in settings or settings[name].value.lower() not in _OFF


def _split(lines: list[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """The commands: lines, with those that a backslash continues."""
    command: list[tuple[int, str]] = []
    for number, line in lines:
        command.append((number, line))
        if not line.rstrip().endswith("\\"):
            yield command
            command = []
    yield command


def _of_command(path: str, lines: list[tuple[int, str]]) -> tuple[bool, dict[str, Setting]]:
    """Whether a command starts a script, and the variables that it sets."""
    settings: dict[str, Setting] = {}
    kept = [(number, line) for number, line in lines if not line.lstrip().startswith("#")]
    for number, line in kept:
        for match in _ASSIGNMENT.finditer(line):
            value = match[2].strip("\"'")
            if "$" not in value:
                settings[match[1]] = Setting(value, Evidence(path, number, line.strip()[:200]))
    return any(_COMMAND.search(line) for _, line in kept), settings


def _logged(claims: Claims) -> Iterator[tuple[str, Setting]]:
    """The dump prints attributes; by convention the variable is the name in capitals.

    Where the log holds source, the annotation of a parameter looks like a line of the dump.
    """
    for log in claims.logs:
        for name, setting in log.settings.items():
            text = setting.value.strip()
            value = _WORD.get(text.lower(), text)
            if len(value) <= 60 and not _ANNOTATION.match(text):
                yield name.upper(), Setting(value, setting.evidence)


def _text(file: SourceFile) -> str:
    return file.data[:MAX_TEXT].decode("utf-8", errors="replace")
