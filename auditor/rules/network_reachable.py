"""N1: the script reaches for the network."""

import ast
import re
from collections.abc import Iterator

from auditor.finding import Axis, Confidence, Evidence, Finding, Status
from auditor.program.dataflow.marks import Place
from auditor.program.index import Module
from auditor.program.search import calls_matching, is_conditional
from auditor.rules.base import Context, Rule

_GATE = re.compile(
    r"\b(?:urlopen|urlretrieve|requests|httpx|aiohttp|http\.client|socket|wandb|hf_hub_download|"
    r"snapshot_download|get_kernel|load_dataset|from_pretrained|boto3|wget|curl)\b|"
    r"\bpip3?\b.{0,30}\binstall\b|\bgit\b.{0,12}\bclone\b"
)
_SENDS = re.compile(
    r"(?:urllib\.request|urllib)\.(?:urlopen|urlretrieve)|"
    r"(?:requests|httpx)\.(?:get|post|put|request|Session|Client|stream)|"
    r"http\.client\.\w+|socket\.(?:socket|create_connection)|wandb\.init|boto3\.\w+"
)
# These answer from a local cache where one was filled beforehand.
_CACHED = re.compile(
    r"huggingface_hub\.\w+|kernels\.get_kernel|datasets\.load_dataset|.*\.from_pretrained"
)
_COMMANDS = re.compile(r"subprocess\.\w+|os\.(?:system|popen)")
_COMMAND = re.compile(r"\bpip3?\b.{0,40}\binstall\b|\bgit\b.{0,20}\bclone\b|\b(?:wget|curl)\b")


class NetworkReachable(Rule):
    """Looks for calls that open a connection, and whether anything stands in front of them."""

    id = "N1"
    title = "the script uses the network"
    axis = Axis.VALIDITY
    what = (
        "A connection that is opened at the script's top level under no condition, and so in every "
        "run, evaluation included. A connection behind a branch, in an exception handler or in a "
        "function, and a download that a local cache may answer, are notes."
    )
    why = "What evaluation can fetch need not be in the artifact."
    source = "README: no external downloads, training data or network calls during evaluation"
    legal = "Downloads in scripts that prepare data; packages that are installed beforehand."
    known_misses = (
        "a connection that C code or a shipped program opens",
        "an unconditional connection inside a function, which is a note",
    )
    valid = (
        """
import math
try:
    import brotli
except ImportError:
    import subprocess, sys
    subprocess.check_call([sys.executable, "-m", "pip", "install", "brotli"])
def prepare(url):
    import urllib.request
    return urllib.request.urlopen(url).read()
""",
    )
    invalid = (
        """
from urllib.request import urlopen as fetch
table = fetch("http://example.org/table.bin").read()
""",
        """
import subprocess
subprocess.run(["git", "clone", "https://example.org/weights"], check=True)
""",
    )

    def check(self, context: Context) -> Iterator[Finding]:
        """One finding for each connection, or a pass."""
        if context.program.tree is None:
            yield self.finding(Status.UNKNOWN, f"not analysed: {context.program.problem}")
            return
        found = [
            finding
            for module in context.program.modules
            for call, name in calls_matching(module, _GATE)
            if (finding := self._call(context, module, call, name)) is not None
        ]
        if not found:
            yield self.finding(Status.PASS, "no call opens a connection")
        yield from found[:20]

    def _call(self, context: Context, module: Module, call: ast.Call, name: str) -> Finding | None:
        here = context.evidence(Place(module.path, call.lineno))
        if _CACHED.fullmatch(name):
            return self._note(f"{name} downloads unless a local cache answers", here)
        runs = _COMMANDS.fullmatch(name) and _COMMAND.search(_words(call))
        if not runs and not _SENDS.fullmatch(name):
            return None
        if is_conditional(module, call.lineno):
            return self._note(f"{name} may open a connection", here)
        return self.finding(
            Status.FAIL,
            f"{name} opens a connection in every run",
            (here,),
            confidence=Confidence.MEDIUM,
        )

    def _note(self, reason: str, here: Evidence) -> Finding:
        return self.finding(Status.NOTE, reason, (here,), confidence=Confidence.LOW)


def _words(call: ast.Call) -> str:
    """The literal words of a command."""
    return " ".join(
        node.value
        for argument in call.args
        for node in ast.walk(argument)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
