"""Makes the other ranks: copies of this process, joined to rank 0 by local sockets."""

import os
import socket
from pathlib import Path

from auditor.dynamic.device.ranks import world
from auditor.dynamic.device.run import Run


def fork_ranks(size: int, run: Run) -> int:
    """Forks ranks 1 ... size - 1 and returns the number of the process that is returned to.

    The other ranks print into files of their own and send results as `rank1/...`.
    """
    world.size = size
    for rank in range(1, size):
        mine, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            for other in (mine, *world.peers):  # else no rank would notice another's end
                other.close()
            world.rank, world.peers = rank, [theirs]
            run.enter(f"rank{rank}", Path(f"/tmp/output-rank{rank}"))
            return rank
        theirs.close()
        run.ranks.append(child)
        world.peers.append(mine)
    return 0
