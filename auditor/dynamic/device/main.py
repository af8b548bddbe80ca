"""The entry inside the sandbox: makes the device, installs capture, runs the script as `__main__`.

Reads `job.json` from the folder it is started in:

- `script`: path of the script, `folder`: the folder to run in, `argv`: its arguments;
- `changed`: sources to run in the place of others, by digest (see `sources`);
- `absent`: modules, and names of stood-in modules, that the script imports unguarded and that are
  not there;
- `capture`: module name to settings, installed in this order; names start with
  `auditor.dynamic.capture.`;
- `world_size`: ranks, each its own process;
- `seconds`: the wall-clock limit;
- `triton`: whether the script uses Triton and it is installed;
- `links`: symbolic links to make, path to target.

The script's exit state, what it wrote and which patches it used leave through the pipe.
"""

import builtins
import faulthandler
import importlib
import json
import os
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from auditor.dynamic.device import clock, install, patching, programs, sources, spreading
from auditor.dynamic.device.run import Run, exit_state

_CAPTURE = "auditor.dynamic.capture."


def main() -> None:
    """Runs the job; ends with the script's own exit code."""
    pipe = int(os.environ.pop("AUDITOR_RESULT_FD"))
    job = json.loads(Path("job.json").read_bytes())
    Path("job.json").unlink()
    faulthandler.dump_traceback_later(job["seconds"] - 2)  # where it was, if it is to be stopped
    _prepare(job)
    run = Run(pipe, Path.cwd(), job)
    _spread(job, run)
    torch.set_num_threads(1)
    install({"world_size": job.get("world_size", 1), "triton": job.get("triton", False)})
    _stand_in_for(job.get("absent", ()))
    sources.install(job.get("changed", {}))
    for name, settings in job.get("capture", {}).items():
        _install_capture(run, name, settings)
    state = _execute(job)
    run.send_json("used", dict(patching.used) | {"looks at the clock": clock.clock.looks})
    state["cpu"] = run.spent()
    run.finish(state)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(state["code"])  # threads and atexit handlers of the script have no say in it


def _prepare(job: Mapping[str, Any]) -> None:
    for path, target in job.get("links", {}).items():
        link = Path(path)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(target)
    programs.install(Path("/tmp/bin"))


def _spread(job: Mapping[str, Any], run: Run) -> None:
    """Forks the other ranks before the device is made. Each knows itself by its environment."""
    size = int(job.get("world_size", 1))
    rank = spreading.fork_ranks(size, run)
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(size),
        LOCAL_WORLD_SIZE=str(size),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT="29500",
    )


def _stand_in_for(names: Any) -> None:
    for name in names:
        parts = name.split(".")
        owner = sys.modules.get(name.rpartition(".")[0])
        if isinstance(owner, patching.StandIn):  # it has a part of the package
            if not hasattr(owner, parts[-1]):
                patching.replace(owner, **{parts[-1]: patching.Absent(name)})
            continue
        for depth in range(1, len(parts) + 1):
            parent = ".".join(parts[:depth])
            if parent not in sys.modules:
                absent = patching.AbsentModule(parent)
                sys.modules[parent] = absent


def _install_capture(run: Run, name: str, settings: Mapping[str, Any]) -> None:
    if not name.startswith(_CAPTURE):
        raise ValueError(f"{name} is no capture hook")
    collect = importlib.import_module(name).install(run, settings)
    if collect is not None:
        run.hooks[name.removeprefix(_CAPTURE)] = collect


def _execute(job: Mapping[str, Any]) -> dict[str, Any]:
    script = Path(job["script"]).resolve()
    os.chdir(job["folder"])
    sys.argv = [str(script), *job.get("argv", ())]
    sys.path.insert(0, str(script.parent))
    module = types.ModuleType("__main__")
    module.__file__ = str(script)
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    try:
        code = compile(script.read_bytes(), str(script), "exec", dont_inherit=True)
        exec(code, module.__dict__)
    except BaseException as error:  # whatever foreign code raises is its exit state
        if not isinstance(error, SystemExit):
            sys.excepthook(type(error), error, error.__traceback__)
        return exit_state(error)
    return exit_state(None)


if __name__ == "__main__":
    main()
