"""Audits many pull requests on all cores into one file, a line a script.

A job is one pull request. Whatever goes wrong in it, a hang or a crash of its process included,
costs that job alone and leaves a line that says what happened. Results are written in the order
of the jobs; a run that was interrupted continues where its file ends.
"""

import dataclasses
import hashlib
import json
import multiprocessing
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import auditor
from auditor.audit import Probing, audit_submission
from auditor.errors import AuditError
from auditor.finding import Audit, Readiness, Validity
from auditor.policy import policy
from auditor.report.json import line
from auditor.submission.git import Clone
from auditor.submission.load import load_from_clone
from auditor.submission.model import Submission

Job = tuple[int, str | None]  # a pull request, and the commit to read instead of its head
AHEAD = 4  # jobs in the queue for each process, so that none waits for the next


@dataclass(frozen=True)
class Plan:
    """What to audit and how. `seconds` is the limit for one pull request, `budget` how much of it
    the runs of a whole script may take."""

    repo: Path
    jobs: tuple[Job, ...]
    out: Path
    policy: str
    dynamic: bool = False
    budget: float = 0.0
    processes: int = 1
    seconds: int = 120
    cache: Path | None = None


class _TooSlow(BaseException):
    """The job passed its time limit. No handler of ordinary errors on the way may keep it."""


def read_jobs(path: Path) -> list[Job]:
    """The jobs of a list: `N` or `N SHA` a line; blank lines and `#` comments are skipped."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise AuditError(f"{path}: cannot be read: {error}") from None
    jobs: list[Job] = []
    for number, full in enumerate(text.splitlines(), 1):
        words = full.partition("#")[0].split()
        if not words:
            continue
        if len(words) > 2 or not words[0].isdecimal():
            raise AuditError(f"{path}:{number}: 'N' or 'N SHA' is wanted, not {full.strip()!r}")
        jobs.append((int(words[0]), words[1].lower() if len(words) == 2 else None))
    return jobs


def run_batch(plan: Plan) -> Iterator[Counter[str]]:
    """Runs every job that is not in the results yet; yields how its scripts came out.

    Jobs that were there already count as `already there`.
    """
    done = _resume(plan)
    waiting = []
    for job in plan.jobs:
        if _is_done(job, done):
            yield Counter({"already there": 1})
        else:
            waiting.append(job)
    plan.out.parent.mkdir(parents=True, exist_ok=True)
    with plan.out.open("a", encoding="utf-8") as out:
        for lines in _run_jobs(plan, waiting):
            out.write("".join(text + "\n" for text in lines))
            out.flush()
            yield Counter(json.loads(text)["validity"] for text in lines)


def _resume(plan: Plan) -> list[tuple[int, str]]:
    """The pull requests and heads in the results; a line that was cut off is removed."""
    if not plan.out.exists():
        return []
    done, kept = [], []
    for text in plan.out.read_text(encoding="utf-8").splitlines():
        try:
            result = json.loads(text)
            done.append((int(result["pr"]), str(result["head"] or "")))
        except (ValueError, KeyError, TypeError):
            continue
        if result.get("policy") != plan.policy:
            raise AuditError(
                f"{plan.out}: holds results under policy {result.get('policy')}; "
                "name another file, or remove it"
            )
        kept.append(text)
    plan.out.write_text("".join(text + "\n" for text in kept), encoding="utf-8")
    return done


def _is_done(job: Job, done: list[tuple[int, str]]) -> bool:
    return any(job[0] == pr and head.startswith(job[1] or "") for pr, head in done)


def _run_jobs(plan: Plan, jobs: list[Job]) -> Iterator[list[str]]:
    """The result lines of each job, in order."""
    pool = _Pool(plan)
    queue: deque[tuple[Job, Future[list[str]]]] = deque()
    rest = iter(jobs)
    try:
        while True:
            while len(queue) < AHEAD * plan.processes and (job := next(rest, None)) is not None:
                queue.append((job, pool.submit(job)))
            if not queue:
                return
            job, future = queue.popleft()
            try:
                yield future.result()
            except BrokenProcessPool:
                # Any of the queued jobs may have killed it: this one is tried on its own.
                pool.restart()
                yield _alone(plan, job)
                queue = deque((other, pool.submit(other)) for other, _ in queue)
    finally:
        pool.shutdown()


class _Pool:
    """A process pool that can be started again."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.executor = self._new()

    def submit(self, job: Job) -> "Future[list[str]]":
        """Queues a job; a pool that broke meanwhile is started again."""
        try:
            return self.executor.submit(audit_job, self.plan, job)
        except BrokenProcessPool:
            self.restart()
            return self.executor.submit(audit_job, self.plan, job)

    def restart(self) -> None:
        """A new pool; the old one is beyond use."""
        self.shutdown()
        self.executor = self._new()

    def shutdown(self) -> None:
        """Ends the processes and drops what they have not begun."""
        self.executor.shutdown(wait=False, cancel_futures=True)

    def _new(self) -> ProcessPoolExecutor:
        # Forking a process that draws progress from a thread may deadlock; spawning cannot.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.plan.processes, mp_context=context)


def _alone(plan: Plan, job: Job) -> list[str]:
    single = _Pool(dataclasses.replace(plan, processes=1))
    try:
        return single.submit(job).result()
    except BrokenProcessPool:
        return [line(_unknown(plan, job, "the process that audited it died"))]
    finally:
        single.shutdown()


def audit_job(plan: Plan, job: Job) -> list[str]:
    """The result lines of one pull request; runs in a worker process and never raises."""
    head: str | None = None
    try:
        with _Deadline(plan.seconds):
            clone = _clone(plan.repo)
            submissions = load_from_clone(clone, job[0], job[1])
            head = submissions[0].head
            return [_audited(plan, submission) for submission in submissions]
    except AuditError as error:
        return [line(_unknown(plan, job, str(error)))]
    except _TooSlow:
        return [line(_unknown(plan, job, f"took more than {plan.seconds} s", head))]
    except Exception as error:  # one bad script costs one result
        return [line(_unknown(plan, job, f"{type(error).__name__}: {error}", head))]


@cache
def _clone(repo: Path) -> Clone:
    return Clone(repo)


def _unknown(plan: Plan, job: Job, reason: str, head: str | None = None) -> Audit:
    return Audit(
        pr=job[0],
        head=head or job[1],
        path="",
        blob="",
        validity=Validity.UNKNOWN,
        readiness=Readiness.UNKNOWN,
        policy=plan.policy,
        seconds=0.0,
        findings=(),
        not_examined=(reason,),
    )


def _audited(plan: Plan, submission: Submission) -> str:
    """One result line, from the cache if the same files were audited in the same way."""
    kept = plan.cache / _key(plan, submission) if plan.cache is not None else None
    if kept is not None and kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return json.dumps(
            {**found, "pr": submission.pr, "head": submission.head}, ensure_ascii=False
        )
    probing = Probing(min(plan.budget, 0.7 * plan.seconds)) if plan.dynamic else False
    audit = audit_submission(submission, policy=policy(plan.policy), dynamic=probing)
    text = line(audit)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{submission.pr}.part")
        part.write_text(text, encoding="utf-8")
        part.replace(kept)
    return text


def _key(plan: Plan, submission: Submission) -> str:
    """The cache's file name: it changes with any file, the policy, or any line of the auditor."""
    parts = [plan.policy, str(plan.dynamic), _version(), submission.main.path]
    parts += [f"{name} {file.blob}" for name, file in sorted(submission.files.items())]
    parts += [f"{name} {problem}" for name, problem in sorted(submission.unread.items())]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return f"{digest[:2]}/{digest[2:]}.json"


@cache
def _version() -> str:
    """A digest of the auditor's own source: rules, and all that they rest on."""
    root = Path(auditor.__file__).parent
    digest = hashlib.sha256(auditor.__version__.encode())
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


class _Deadline:
    """Raises `_TooSlow` in this process once `seconds` have passed; 0 means never."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        self.before: Callable[[int, FrameType | None], Any] | int | None = None

    def __enter__(self) -> None:
        self.before = signal.signal(signal.SIGALRM, self._ring)
        signal.alarm(self.seconds)

    def __exit__(self, *_: object) -> None:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, self.before)

    @staticmethod
    def _ring(_signal: int, _frame: FrameType | None) -> None:
        raise _TooSlow
