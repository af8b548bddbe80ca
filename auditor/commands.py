"""What each command does. Heavy imports happen inside, so that `--help` answers at once.

Only here, in `auditor.delivery` and in `auditor.cli` is anything printed.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from auditor.delivery import deliver, rendered, write
from auditor.errors import AuditError

if TYPE_CHECKING:
    from auditor.dossier import Dossier
    from auditor.finding import Audit
    from auditor.submission.model import Submission

    Load = Callable[[], list[Submission]]
EXIT_VALID, EXIT_INVALID, EXIT_USAGE, EXIT_UNDECIDED = 0, 1, 2, 3
REPO_VARIABLE = "PARAMETER_GOLF_REPO"


def audit(options: argparse.Namespace) -> int:
    """`auditor audit`."""
    from auditor.audit import DEFAULT_POLICY, Probing, audit_in_full
    from auditor.parallel import in_processes
    from auditor.policy import policy
    from auditor.report.view import Audience, View

    chosen = policy(options.policy or DEFAULT_POLICY)
    overrides = _overrides(options.overrides)
    with ExitStack() as stack:
        probing: bool | Probing = False
        if options.dynamic:
            from auditor.console import telling

            probing = Probing(options.budget, stack.enter_context(telling()))
        audited = partial(audit_in_full, policy=chosen, dynamic=probing, overrides=overrides)
        if probing is False:
            found = in_processes(partial(_each, audited), _loads(options))
            dossiers = [dossier for part in found for dossier in part]
        else:
            dossiers = [audited(submission) for submission in _submissions(options)]
    if not dossiers:
        print(f"auditor: no training script changed since {options.base}", file=sys.stderr)
    view = View(Audience(options.audience), options.timeline, options.excerpts)
    deliver(dossiers, options.format, options.output, view)
    return exit_status([dossier.audit for dossier in dossiers])


def _each(audited: Callable[["Submission"], "Dossier"], load: "Load") -> list["Dossier"]:
    return [audited(submission) for submission in load()]


def _submissions(options: argparse.Namespace) -> list["Submission"]:
    return [one for load in _loads(options) for one in load()]


def _loads(options: argparse.Namespace) -> list["Load"]:
    """What loads the scripts that are named, target by target."""
    from auditor.submission.load import load_change, load_pull_request, load_target

    if sum((options.pr is not None, options.base is not None, bool(options.targets))) > 1:
        raise AuditError("name targets, --pr or --base, not both")
    if options.at and options.pr is None and options.base is None:
        raise AuditError("--at names a commit of a pull request: add --pr N")
    if options.base is not None:
        return [partial(load_change, Path(options.repo or "."), options.base, options.at or "HEAD")]
    if options.pr is not None:
        return [partial(load_pull_request, _repo(options), options.pr, options.at)]
    if options.targets:
        return [partial(load_target, target) for target in options.targets]
    raise AuditError("nothing to audit: name a script, a folder, or --repo CLONE --pr N")


def _overrides(settings: Sequence[str]) -> dict[str, str]:
    found = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not name or not equals:
            raise AuditError(f"--set {setting}: NAME=VALUE is wanted")
        found[name] = value
    return found


def fix(options: argparse.Namespace) -> int:
    """`auditor fix`."""
    from auditor.audit import DEFAULT_POLICY, audit_in_full
    from auditor.policy import policy
    from auditor.report.patches import listing

    overrides = _overrides(options.overrides)
    chosen = policy(DEFAULT_POLICY)
    dossiers = [
        audit_in_full(submission, policy=chosen, overrides=overrides)
        for submission in _submissions(options)
    ]
    print("".join(listing(dossier, options.diff) for dossier in dossiers), end="")
    return exit_status([dossier.audit for dossier in dossiers])


def exit_status(audits: Sequence["Audit"]) -> int:
    """The gravest of all verdicts, as the command line's contract numbers them."""
    from auditor.finding import Validity

    verdicts = {audit.validity for audit in audits}
    if Validity.INVALID in verdicts:
        return EXIT_INVALID
    return EXIT_VALID if verdicts <= {Validity.VALID} else EXIT_UNDECIDED


def _known_repo(options: argparse.Namespace) -> Path | None:
    """The clone that is named, else the one that the environment names."""
    named = options.repo or os.environ.get(REPO_VARIABLE)
    return Path(named) if named else None


def _repo(options: argparse.Namespace) -> Path:
    repo = _known_repo(options)
    if repo is None:
        raise AuditError(f"--pr and batch need --repo CLONE (or {REPO_VARIABLE} set)")
    return repo


def batch(options: argparse.Namespace) -> int:
    """`auditor batch`."""
    from auditor.audit import DEFAULT_POLICY
    from auditor.batch import Plan, read_jobs, run_batch
    from auditor.console import track
    from auditor.policy import policy
    from auditor.submission.git import Clone

    chosen = policy(options.policy or DEFAULT_POLICY)
    repo = _repo(options)
    clone = Clone(repo)
    jobs = [(pr, None) for pr in clone.pull_requests()] if options.all else read_jobs(options.prs)
    plan = Plan(
        repo=repo,
        jobs=tuple(jobs),
        out=options.out,
        policy=chosen.name,
        dynamic=options.dynamic,
        budget=options.budget,
        processes=max(1, options.jobs),
        seconds=options.timeout,
        cache=None if options.no_cache else options.cache or _default_cache(),
    )
    tally = track(run_batch(plan), len(jobs))
    print(f"{options.out}: " + ", ".join(f"{count:,} {name}" for name, count in tally.items()))
    return EXIT_VALID


def _default_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "parameter-golf-auditor"


def replay(options: argparse.Namespace) -> int:
    """`auditor replay`."""
    from auditor.dynamic import witness

    result = witness.replay(options.witness)
    for line in (result.script, *result.lines):
        print(line)
    return EXIT_VALID if result.reproduced else EXIT_INVALID


def trial(options: argparse.Namespace) -> int:
    """`auditor trial`."""
    import json

    from auditor.dynamic.trial import Trial, run_trial

    outcome = run_trial(
        Trial(
            script=options.script,
            data=options.data,
            files=options.files,
            environment=_overrides(options.overrides),
            keep=options.keep,
            seconds=options.seconds,
        )
    )
    for name, data in outcome.kept.items():
        if name in options.keep:
            write(options.out / name, data)
    print(json.dumps(outcome.to_json()))
    return EXIT_VALID if outcome.problem is None else EXIT_INVALID


def rules(options: argparse.Namespace) -> int:
    """`auditor rules`."""
    from auditor.report.rulebook import listing, page, pages
    from auditor.rules import all_rules

    known = all_rules()
    if options.markdown:
        for name, text in pages(known).items():
            write(options.markdown / name, text)
            print(f"wrote {options.markdown / name}")
        return EXIT_VALID
    print(page(known, options.id) if options.id else listing(known), end="")
    return EXIT_VALID


def demo(options: argparse.Namespace) -> int:
    """`auditor demo`."""
    from rich.console import Console

    from auditor.audit import DEFAULT_POLICY, Probing, audit_in_full
    from auditor.demo import submission
    from auditor.policy import policy
    from auditor.report.terminal import draw
    from auditor.report.view import View

    probing = False if options.static else Probing(seconds=0)  # the fault is in its scorer
    dossier = audit_in_full(submission(), policy=policy(DEFAULT_POLICY), dynamic=probing)
    draw(Console(), [dossier])
    print()
    deliver([dossier], None, [options.output], View())
    if options.svg:
        write(options.svg, rendered([dossier], "svg", View()))
        print(f"wrote {options.svg}")
    return exit_status([dossier.audit])


def hook(options: argparse.Namespace) -> int:
    """`auditor hook`: the record folders that some files lie in; fails where one is invalid."""
    from auditor.audit import DEFAULT_POLICY, audit_in_full
    from auditor.policy import policy
    from auditor.report.view import Audience, View
    from auditor.submission.load import folder_of, load_target

    folders = dict.fromkeys(folder for path in options.files if (folder := folder_of(path)))
    dossiers = [
        audit_in_full(submission, policy=policy(DEFAULT_POLICY))
        for folder in folders
        for submission in load_target(folder)
    ]
    if dossiers:
        deliver(dossiers, None, [], View(Audience.SUBMITTER))
    status = exit_status([dossier.audit for dossier in dossiers])
    return EXIT_INVALID if status == EXIT_INVALID else EXIT_VALID


def catalogue(options: argparse.Namespace) -> int:
    """`auditor catalogue`."""
    import json

    from auditor.evidence.catalogue import measure

    found = measure(_repo(options), options.at)
    write(options.output, json.dumps(found.to_json(), indent=1) + "\n")
    print(
        f"wrote {options.output}: {len(found.rows)} rows, {found.sigma:.5f} bits per byte between "
        f"seeds over {found.submissions} submissions"
    )
    return EXIT_VALID


def schema(_options: argparse.Namespace) -> int:
    """`auditor schema`."""
    from auditor.report.json import schema as published

    print(published(), end="")
    return EXIT_VALID


def serve(options: argparse.Namespace) -> int:
    """`auditor serve`."""
    try:
        from auditor.serve.app import run
    except ImportError:
        raise AuditError("serve needs more: install with pip install '.[serve]'") from None
    run(options.host, options.port, _known_repo(options), dynamic=options.dynamic)
    return EXIT_VALID
