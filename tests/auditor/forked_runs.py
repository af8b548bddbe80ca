"""Runs our own scripts in forks of one process: no sandbox, no device, one import of torch.

Stands in for `rehearse` in the tests of the probes; what the hooks see and tell is the same. As a
program it probes a script with each of the given sets of faults and prints what came of it:

    forked_runs.py SCRIPT FOLDER FAULTS [FAULTS ...]
"""

import importlib
import json
import os
import shutil
import sys
import traceback
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from auditor.dynamic.limits import Limits
from auditor.dynamic.plan import RunPlan
from auditor.dynamic.rehearsal import Rehearsal, Variant, find_metric, metrics, read_frames


class ForkedRuns:
    """`folder` takes the place of the sandbox's work folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self,
        plan: RunPlan,
        *,
        capture: Mapping[str, Mapping[str, Any]],
        limits: Limits | None = None,  # noqa: ARG002
    ) -> Rehearsal:
        """As `rehearse`."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for name, data in plan.files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        job = json.loads(self._here(json.dumps(plan.job(capture))))
        environment = json.loads(self._here(json.dumps(dict(plan.environment))))
        found = read_frames(self._fork(job, environment))
        variants = {
            name: Variant(output, results, find_metric(metrics(output), plan.tag))
            for name, results in found.items()
            for output in [results.get("output", b"").decode()]
        }
        state = variants[""].json("exit")
        return Rehearsal(plan, variants, 0.0, state.get("error"))

    def _here(self, text: str) -> str:
        return text.replace("/scratch", str(self.folder))

    def _fork(self, job: Mapping[str, Any], environment: Mapping[str, str]) -> bytes:
        # Optimizers load it, which takes seconds: once here, and not again in every variant.
        importlib.import_module("torch._dynamo")

        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            try:
                _run(write, self.folder, job, environment)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            data = pipe.read()
        os.waitpid(pid, 0)
        return data


def _run(pipe: int, folder: Path, job: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    import torch

    from auditor.dynamic.capture import session
    from auditor.dynamic.device.run import Run, exit_state

    torch.set_num_threads(1)
    os.chdir(folder)
    os.environ.update(environment)
    run = Run(pipe, folder, job)
    output = folder.parent / "output"
    run.enter("", output)
    (settings,) = job["capture"].values()
    sys.stdout = os.fdopen(1, "w", closefd=False)
    run.hooks["session"] = session.install(run, settings)
    script = folder / job["script"]
    os.chdir(folder / job["folder"])
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    error: BaseException | None = None
    try:
        exec(compile(script.read_bytes(), str(script), "exec"), module.__dict__)
    except BaseException as raised:
        error = raised
    sys.stdout.flush()
    if not run.variant:
        run.send("output", output.read_bytes())
    run.finish(exit_state(error))


def main(script: str, folder: str, *sets: str) -> None:
    """Prints one JSON object: for each set of faults its probes and the lines that ran."""
    from auditor.dynamic import sandbox
    from auditor.dynamic.device.patching import replace
    from auditor.dynamic.probes import suite
    from auditor.dynamic.shrink import Sizes
    from auditor.program.index import build
    from auditor.submission.load import load_target
    from auditor.submission.unpack import unpack

    replace(sandbox, require=lambda: None)
    replace(
        suite,
        rehearse=ForkedRuns(Path(folder) / "work"),
        _SIZES=Sizes(vocabulary=64, tokens=160),
        _POSITIONS=1,
        _cores=lambda: 1,  # the runs share a folder
    )
    (submission,) = load_target(Path(script))
    program = build(submission, unpack(submission.main, submission.files))
    told = {}
    for faults in sets:
        result = suite.probe(submission, program, overrides={"FAULTS": faults})
        told[faults] = {
            "problem": result.problem,
            "timeline": [
                [event.kind.value, event.line.text, *map(str, event.spans + event.known)]
                for event in result.timeline
            ],
            "lines": sorted(line for name, line in result.lines if name == "train_gpt.py"),
            "probes": {
                p.probe: {
                    "outcome": p.outcome.value,
                    "reason": p.reason,
                    "outside": p.outside,
                    "witness": p.witness is not None,
                }
                for p in result.probes
            },
        }
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
