"""The command line: its arguments, and what becomes of errors. `auditor.commands` does the rest."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import auditor
from auditor import commands
from auditor.commands import EXIT_USAGE, REPO_VARIABLE
from auditor.delivery import FORMATS
from auditor.errors import AuditError
from auditor.report.text import visible

AUDIENCES = ("submitter", "reviewer", "auditor")
MAX_MESSAGE = 1000
SHELLS = ("bash", "zsh", "fish")
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

EXAMPLES = """\
examples:
  auditor demo                                  audit a shipped script that carries a real fault
  auditor audit train_gpt.py                    audit a script
  auditor audit submissions/2026-05-01_mine     audit a record folder: script, logs, claims
  auditor audit --repo parameter-golf.git --pr 700 --dynamic --output review.html
  auditor audit mine/ --set TTT_ENABLED=1       what if that had been switched on?
  auditor fix train_gpt.py --diff | patch -p1   take a suggested patch
  auditor batch --repo parameter-golf.git --all --out results.jsonl
  auditor serve --repo parameter-golf.git       the same in a browser
  auditor completion bash >> ~/.bashrc          the names, completed

exit status: 0 nothing invalid, 1 invalid, 2 usage or unreadable input, 3 pending or unknown
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except AuditError as error:
        # A message may quote a file's name, and that may hold commands for whoever reads the log.
        print(f"auditor: {visible(str(error), MAX_MESSAGE)}", file=sys.stderr)
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
    added = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_audit(added)
    _add_fix(added)
    _add_batch(added)
    _add_replay(added)
    _add_trial(added)
    _add_rules(added)
    _add_demo(added)
    _add_serve(added)
    _add_hook(added)
    _add_small(added)
    return parser


def _add_audit(added: Commands) -> None:
    audit = added.add_parser(
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
    audit.add_argument(
        "--excerpts",
        action="store_true",
        help="of the script only the lines that the report speaks of; witnesses without it",
    )
    audit.add_argument(
        "--format", choices=FORMATS, help="default: by the suffix of --output; github: annotations"
    )
    audit.add_argument(
        "--output",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="write here, not to the terminal; repeat it for several formats of one audit",
    )
    audit.set_defaults(run=commands.audit)


def _add_fix(added: Commands) -> None:
    fix = added.add_parser(
        "fix",
        help="suggest patches for what has a certain legal variant",
        description="Suggests patches that the rules pass; changes no file.",
    )
    _target_arguments(fix)
    fix.add_argument("--diff", action="store_true", help="print the patches alone, for patch -p1")
    fix.set_defaults(run=commands.fix)


def _add_batch(added: Commands) -> None:
    batch = added.add_parser(
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
    batch.set_defaults(run=commands.batch)


def _add_replay(added: Commands) -> None:
    replay = added.add_parser("replay", help="repeat a witness and compare its numbers")
    replay.add_argument("witness", type=Path, metavar="WITNESS.json")
    replay.set_defaults(run=commands.replay)


def _add_trial(added: Commands) -> None:
    trial = added.add_parser(
        "trial",
        help="run a script on given data on the virtual GPU, and say what it cost",
        description="Runs a script in the sandbox, on one core that it takes for an H100, and "
        "prints one JSON object: every line that it wrote, with the CPU seconds and the peak "
        "memory by then.",
    )
    trial.add_argument("script", type=Path, metavar="SCRIPT")
    trial.add_argument("--data", type=Path, metavar="DIR", help="shown to it as /data, read-only")
    trial.add_argument(
        "--file", action="append", default=[], type=Path, dest="files", metavar="FILE",
        help="put beside the script; repeatable",
    )  # fmt: skip
    trial.add_argument(
        "--set", action="append", default=[], dest="overrides", metavar="NAME=VALUE",
        help="an environment variable; repeatable",
    )  # fmt: skip
    trial.add_argument(
        "--keep", action="append", default=[], metavar="NAME",
        help="a file that it leaves beside itself, to be written to --out; repeatable",
    )  # fmt: skip
    trial.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="default: here")
    trial.add_argument("--seconds", type=float, default=600.0, help="limit (default %(default)g)")
    trial.set_defaults(run=commands.trial)


def _add_rules(added: Commands) -> None:
    rules = added.add_parser("rules", help="list the rules, or explain one")
    rules.add_argument("id", nargs="?", metavar="ID", help="for example C2")
    rules.add_argument("--markdown", type=Path, metavar="DIR", help="write a page for each rule")
    rules.set_defaults(run=commands.rules)


def _add_demo(added: Commands) -> None:
    demo = added.add_parser("demo", help="audit a shipped script that carries a real fault")
    demo.add_argument("--output", type=Path, default=Path("auditor-demo.html"), metavar="FILE")
    demo.add_argument("--svg", type=Path, metavar="FILE", help="also save the report as a picture")
    demo.add_argument("--static", action="store_true", help="without running the script")
    demo.set_defaults(run=commands.demo)


def _add_serve(added: Commands) -> None:
    serve = added.add_parser(
        "serve",
        help="audit in a browser: paste a script, or choose a pull request of the clone",
        description="Serves audits on this machine. Nothing is kept, and no script is run.",
    )
    _clone_arguments(serve)
    serve.add_argument("--host", default="127.0.0.1", help="default: this machine alone")
    serve.add_argument("--port", type=int, default=8700)
    serve.add_argument(
        "--dynamic", action="store_true", help="let visitors have scorers run, in the sandbox"
    )
    serve.set_defaults(run=commands.serve)


def _add_hook(added: Commands) -> None:
    hook = added.add_parser(
        "hook",
        help="audit the record folders that some files lie in, before a commit",
        description="What the pre-commit hook runs; fails only where a score cannot stand.",
    )
    hook.add_argument("files", nargs="*", type=Path, metavar="FILE")
    hook.set_defaults(run=commands.hook)


def _add_small(added: Commands) -> None:
    catalogue = added.add_parser(
        "catalogue",
        help="measure the leaderboard's rows and the deviation between seeds, from a clone",
    )
    _clone_arguments(catalogue)
    catalogue.add_argument("--at", metavar="SHA", help="commit whose README is the leaderboard")
    catalogue.add_argument("--output", type=Path, required=True, metavar="FILE")
    catalogue.set_defaults(run=commands.catalogue)
    schema = added.add_parser("schema", help="print the JSON Schema of the JSON report")
    schema.set_defaults(run=commands.schema)
    completion = added.add_parser("completion", help="print the completion for a shell")
    completion.add_argument("shell", choices=SHELLS)
    completion.set_defaults(run=_completion)


def _completion(options: argparse.Namespace) -> int:
    import shtab

    print(shtab.complete(_parser(), options.shell))
    return commands.EXIT_VALID


def _clone_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repo",
        type=Path,
        metavar="CLONE",
        help=f"git clone of the challenge, bare or not (default: ${REPO_VARIABLE})",
    )


def _target_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("targets", nargs="*", type=Path, metavar="TARGET", help="script or folder")
    _clone_arguments(parser)
    parser.add_argument("--pr", type=int, metavar="N", help="pull request to audit")
    parser.add_argument("--at", metavar="SHA", help="commit of it, instead of its head")
    parser.add_argument(
        "--base",
        metavar="REF",
        help="audit what --at (default: HEAD) changes since it left REF, in this repository",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="NAME=VALUE",
        help="an environment variable of another run than the submitted one; repeatable",
    )


def _audit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dynamic", action="store_true", help="also run the script and its scorer, in a sandbox"
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="for the runs of a whole script (default 300); 0: its scorer alone",
    )
    parser.add_argument("--policy", metavar="P", help="a dated policy (default: the latest)")


if __name__ == "__main__":
    sys.exit(main())
