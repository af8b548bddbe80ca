"""The command line. Only here is anything printed; everything else returns data or raises.

Heavy imports happen inside the commands: `auditor --help` has to answer at once.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import auditor
from auditor.errors import AuditError

if TYPE_CHECKING:
    from auditor.dossier import Dossier
    from auditor.finding import Audit
    from auditor.report.view import View
    from auditor.submission.model import Submission

EXIT_VALID, EXIT_INVALID, EXIT_USAGE, EXIT_UNDECIDED = 0, 1, 2, 3
REPO_VARIABLE = "PARAMETER_GOLF_REPO"
FORMATS = ("terminal", "markdown", "json", "html", "svg")
AUDIENCES = ("submitter", "reviewer", "auditor")
SUFFIXES = {".md": "markdown", ".json": "json", ".jsonl": "json", ".html": "html", ".svg": "svg"}

EXAMPLES = """\
examples:
  auditor demo                                  audit a shipped script that carries a real fault
  auditor audit train_gpt.py                    audit a script
  auditor audit submissions/2026-05-01_mine     audit a record folder: script, logs, claims
  auditor audit --repo parameter-golf.git --pr 700 --dynamic --output review.html
  auditor audit mine/ --set TTT_ENABLED=1       what if that had been switched on?
  auditor fix train_gpt.py --diff | patch -p1   take a suggested patch
  auditor batch --repo parameter-golf.git --all --out results.jsonl

exit status: 0 nothing invalid, 1 invalid, 2 usage or unreadable input, 3 pending or unknown
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except AuditError as error:
        print(f"auditor: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("auditor: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="auditor",
        description="Decides whether a Parameter Golf submission's score stands, and shows why.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"auditor {auditor.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    audit = commands.add_parser(
        "audit",
        help="audit scripts, record folders, or a pull request of a clone",
        description="Audits scripts, record folders, or a pull request of a git clone.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _target_arguments(audit)
    _audit_arguments(audit)
    audit.add_argument(
        "--audience",
        choices=AUDIENCES,
        default="reviewer",
        help="submitter: what to mend, and how; reviewer (default); auditor: everything",
    )
    audit.add_argument(
        "--timeline", action="store_true", help="draw what is scored, trained and counted, in order"
    )
    audit.add_argument("--format", choices=FORMATS, help="default: by the suffix of --output")
    audit.add_argument(
        "--output", type=Path, metavar="FILE", help="write here, not to the terminal"
    )
    audit.set_defaults(run=_audit)

    fix = commands.add_parser(
        "fix",
        help="suggest patches for what has a certain legal variant",
        description="Suggests patches that the rules pass; changes no file.",
    )
    _target_arguments(fix)
    fix.add_argument("--diff", action="store_true", help="print the patches alone, for patch -p1")
    fix.set_defaults(run=_fix)

    batch = commands.add_parser(
        "batch",
        help="audit many pull requests into one file of results",
        description="Audits pull requests of a clone; what is in the results already is skipped.",
    )
    _clone_arguments(batch)
    which = batch.add_mutually_exclusive_group(required=True)
    which.add_argument("--prs", type=Path, metavar="FILE", help="one number, or 'N SHA', a line")
    which.add_argument("--all", action="store_true", help="every pull request of the clone")
    batch.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="results, JSON Lines"
    )
    batch.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N")
    batch.add_argument("--timeout", type=int, default=120, metavar="SECONDS", help="for each one")
    batch.add_argument("--cache", type=Path, metavar="DIR", help="default: the user's cache folder")
    batch.add_argument("--no-cache", action="store_true", help="audit everything again")
    _audit_arguments(batch)
    batch.set_defaults(run=_batch)

    replay = commands.add_parser("replay", help="repeat a witness and compare its numbers")
    replay.add_argument("witness", type=Path, metavar="WITNESS.json")
    replay.set_defaults(run=_replay)

    rules = commands.add_parser("rules", help="list the rules, or explain one")
    rules.add_argument("id", nargs="?", metavar="ID", help="for example C2")
    rules.add_argument("--markdown", type=Path, metavar="DIR", help="write a page for each rule")
    rules.set_defaults(run=_rules)

    demo = commands.add_parser("demo", help="audit a shipped script that carries a real fault")
    demo.add_argument("--output", type=Path, default=Path("auditor-demo.html"), metavar="FILE")
    demo.add_argument("--svg", type=Path, metavar="FILE", help="also save the report as a picture")
    demo.add_argument("--static", action="store_true", help="without running the script")
    demo.set_defaults(run=_demo)
    return parser


def _clone_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repo",
        type=Path,
        metavar="CLONE",
        default=os.environ.get(REPO_VARIABLE),
        help=f"git clone of the challenge, bare or not (default: ${REPO_VARIABLE})",
    )


def _target_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("targets", nargs="*", type=Path, metavar="TARGET", help="script or folder")
    _clone_arguments(parser)
    parser.add_argument("--pr", type=int, metavar="N", help="pull request to audit")
    parser.add_argument("--at", metavar="SHA", help="commit of it, instead of its head")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="NAME=VALUE",
        help="an environment variable of another run than the submitted one; repeatable",
    )


def _audit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dynamic", action="store_true", help="also run the scorer, in a sandbox")
    parser.add_argument("--policy", metavar="P", help="a dated policy (default: the latest)")


def _audit(options: argparse.Namespace) -> int:
    from auditor.audit import DEFAULT_POLICY, audit_in_full
    from auditor.policy import policy
    from auditor.report.view import Audience, View

    chosen = policy(options.policy or DEFAULT_POLICY)
    overrides = _overrides(options.overrides)
    dossiers = [
        audit_in_full(submission, policy=chosen, dynamic=options.dynamic, overrides=overrides)
        for submission in _submissions(options)
    ]
    view = View(Audience(options.audience), options.timeline)
    _deliver(dossiers, options.format, options.output, view)
    return exit_status([dossier.audit for dossier in dossiers])


def _submissions(options: argparse.Namespace) -> list["Submission"]:
    from auditor.submission.load import load_pull_request, load_target

    if options.pr is not None and options.targets:
        raise AuditError("name targets or --pr, not both")
    if options.at and options.pr is None:
        raise AuditError("--at names a commit of a pull request: add --pr N")
    if options.pr is not None:
        return load_pull_request(_repo(options), options.pr, options.at)
    if options.targets:
        return [one for target in options.targets for one in load_target(target)]
    raise AuditError("nothing to audit: name a script, a folder, or --repo CLONE --pr N")


def _overrides(settings: Sequence[str]) -> dict[str, str]:
    found = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not name or not equals:
            raise AuditError(f"--set {setting}: NAME=VALUE is wanted")
        found[name] = value
    return found


def _fix(options: argparse.Namespace) -> int:
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
    return EXIT_VALID if verdicts == {Validity.VALID} else EXIT_UNDECIDED


def _deliver(
    dossiers: list["Dossier"], wanted: str | None, output: Path | None, view: "View"
) -> None:
    """Prints the report, or writes it together with the witnesses that it names."""
    suffix = output.suffix.lower() if output else ""
    chosen = wanted or SUFFIXES.get(suffix, "terminal")
    if output is None and chosen == "terminal":
        from rich.console import Console

        from auditor.report.terminal import draw

        draw(Console(), dossiers, view)
        return
    text = _rendered(dossiers, chosen, view)
    if output is None:
        sys.stdout.write(text)
        return
    _write(output, text)
    print(f"wrote {output}")
    for path in _write_witnesses(dossiers, output.parent):
        print(f"wrote {path}")


def _rendered(dossiers: list["Dossier"], chosen: str, view: "View") -> str:
    from importlib import import_module

    if chosen == "svg":
        from auditor.report.terminal import svg

        return svg(dossiers, view)
    return str(import_module(f"auditor.report.{chosen}").render(dossiers, view))


def _write_witnesses(dossiers: list["Dossier"], folder: Path) -> list[Path]:
    """Every witness as a file of its own, under the name by which the reports call it."""
    import json

    from auditor.report.review import witness_name

    written = []
    for dossier in dossiers:
        for finding in dossier.audit.findings:
            if finding.witness is not None:
                path = folder / witness_name(dossier.audit, finding)
                _write(path, json.dumps(dict(finding.witness), indent=1) + "\n")
                written.append(path)
    return written


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise AuditError(f"{path}: cannot be written: {error.strerror}") from None


def _repo(options: argparse.Namespace) -> Path:
    if options.repo is None:
        raise AuditError(f"--pr and batch need --repo CLONE (or {REPO_VARIABLE} set)")
    return Path(options.repo)


def _batch(options: argparse.Namespace) -> int:
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


def _replay(options: argparse.Namespace) -> int:
    from auditor.dynamic.witness import replay

    result = replay(options.witness)
    for line in (result.script, *result.lines):
        print(line)
    return EXIT_VALID if result.reproduced else EXIT_INVALID


def _rules(options: argparse.Namespace) -> int:
    from auditor.report.rulebook import listing, page, pages
    from auditor.rules import all_rules

    rules = all_rules()
    if options.markdown:
        for name, text in pages(rules).items():
            _write(options.markdown / name, text)
            print(f"wrote {options.markdown / name}")
        return EXIT_VALID
    print(page(rules, options.id) if options.id else listing(rules), end="")
    return EXIT_VALID


def _demo(options: argparse.Namespace) -> int:
    from rich.console import Console

    from auditor.audit import DEFAULT_POLICY, audit_in_full
    from auditor.demo import submission
    from auditor.policy import policy
    from auditor.report.terminal import draw
    from auditor.report.view import View

    dossier = audit_in_full(submission(), policy=policy(DEFAULT_POLICY), dynamic=not options.static)
    draw(Console(), [dossier])
    print()
    _deliver([dossier], None, options.output, View())
    if options.svg:
        _write(options.svg, _rendered([dossier], "svg", View()))
        print(f"wrote {options.svg}")
    return exit_status([dossier.audit])


if __name__ == "__main__":
    sys.exit(main())
