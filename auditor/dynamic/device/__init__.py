"""The virtual GPU: code that runs inside the sandboxed process, before and around the script.

It lets a script that was written for eight H100s run from start to end on one CPU core, and every
run of it give the same bits. Each module patches one concern, at class or module level, so that
threads, custom operators and autograd functions see the same device as the main code.
"""

from collections.abc import Mapping
from typing import Any


def install(settings: Mapping[str, Any]) -> None:
    """Makes this process see one H100 (or one of `world_size`), and time that a counter tells.

    `settings`: `world_size` (default 1); `triton`, whether the script uses Triton. To be called
    once, before the script or any capture hook runs.
    """
    # Imported here: the host reads `sources` of this package, and does without torch.
    from auditor.dynamic.device import (
        attention,
        clock,
        compilation,
        compression,
        cuda,
        interpreter,
        kernels,
        optimizers,
        precision,
        ranks,
        tensors,
    )

    clock.install()
    compilation.install()
    compression.install()
    tensors.install()
    cuda.install(world_size=int(settings.get("world_size", 1)))
    precision.install()
    optimizers.install()
    attention.install()
    ranks.install()
    kernels.install()
    if settings.get("triton"):
        interpreter.install()
