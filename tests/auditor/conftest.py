"""A small clone of the challenge, made for the tests: a bare repository with pull requests."""

import itertools
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings

# A shared machine may stop for a moment: how long an example takes is no law of ours.
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")

RECORD = "records/track_10min_16mb"
SCRIPT = """\
import numpy as np, torch, math
import torch.nn.functional as F
tokens = np.fromfile("fineweb_val_000000.bin", dtype=np.uint16)
net = torch.nn.Linear(8, 8)
total = 0.0
for i in range(2, len(tokens)):
    logp = F.log_softmax(net(torch.tensor(tokens[i - 2 : i])), -1)
    total += -logp[tokens[i]]
print(total / math.log(2))
"""
LEAKY = """\
import numpy as np, torch, math
import torch.nn.functional as F
tokens = np.fromfile("fineweb_val_000000.bin", dtype=np.uint16)
net = torch.nn.Linear(8, 8)
pairs, singles = np.zeros(4096), np.zeros(4096)
total = 0.0
for i in range(2, len(tokens)):
    seen = int(tokens[i - 1]) * 31 ^ int(tokens[i - 2])
    both = (seen ^ int(tokens[i]) * 17) & 4095
    p = pairs[both] / max(singles[seen & 4095], 1)
    logp = F.log_softmax(net(torch.tensor(tokens[i - 2 : i])), -1)
    total += -math.log(0.5 * p + 0.5 * logp[tokens[i]].exp())
    pairs[both] += 1
    singles[seen & 4095] += 1
print(total / math.log(2))
"""
BOARD = {
    "README.md": """\
# Challenge
| Run | Score | Author | Summary | Date | Info |
|-----|------:|--------|---------|------|------|
| Wider | 1.2002 | a | On PR #11: wider | 2026-04-02 | [info](records/track_10min_16mb/board) |
| First | 1.2500 | b | The baseline | 2026-04-01 | none |

| Run | Score | Author | Summary | Date | Info |
|-----|------:|--------|---------|------|------|
| Slow | 1.1 | c | On PR #9: another track | 2026-04-03 | none |
""",
    f"{RECORD}/board/submission.json": (
        '{"val_bpb": 1.2002, "seed_results": {"1": {"val_bpb": 1.2}, "2": {"val_bpb": 1.2001}, '
        '"3": {"val_bpb": 1.2005}}}\n'
    ),
}
_SECONDS = itertools.count()


def git(folder: Path, *arguments: str) -> str:
    """Runs git without the user's configuration; every call is a second later."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@example.org",
        "GIT_AUTHOR_DATE": "@1775000000 +0000",
        "GIT_COMMITTER_DATE": f"@{1775000000 + next(_SECONDS)} +0000",
    }
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@dataclass
class ChallengeClone:
    """The bare clone, and the commits at the heads of its pull requests."""

    path: Path
    heads: dict[int, str] = field(default_factory=dict)


@pytest.fixture(scope="session")
def challenge(tmp_path_factory: pytest.TempPathFactory) -> ChallengeClone:
    """Pull requests 1 open, 2 merged, 3 on the main line, 4 without common history, 5 with two
    folders, 6 with its script at the root, 7 with links and a missing blob, 8 without a script,
    9 with a fault, 10 with one record folder inside another, 11 with scores by seed and a
    leaderboard."""
    base = tmp_path_factory.mktemp("challenge")
    work, bare = base / "work", base / "clone.git"
    work.mkdir()
    git(work, "init", "-q", "-b", "main")
    clone = ChallengeClone(bare)

    def commit(files: dict[str, str]) -> str:
        for name, text in files.items():
            path = work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        git(work, "add", "-A")
        git(work, "commit", "-q", "-m", "change")
        return git(work, "rev-parse", "HEAD")

    def branch(name: str) -> None:
        git(work, "checkout", "-q", "-b", name, "main")

    def record(name: str, script: str = SCRIPT) -> dict[str, str]:
        return {
            f"{RECORD}/{name}/train_gpt.py": script,
            f"{RECORD}/{name}/submission.json": '{"val_bpb": 1.2, "seeds": [1, 2, 3]}\n',
            f"{RECORD}/{name}/README.md": "# A record\n",
            f"{RECORD}/{name}/train_seed1.log": "seed:1\nfinal val_loss:2.0 val_bpb:1.2\n",
        }

    commit({"train_gpt.py": "print('baseline')\n", "README.md": "# Challenge\n"})

    branch("merged")
    clone.heads[2] = commit(record("merged"))
    git(work, "checkout", "-q", "main")
    git(work, "merge", "-q", "--no-ff", "-m", "merge", "merged")
    clone.heads[3] = commit(record("straight"))

    branch("open")
    clone.heads[1] = commit(record("open"))
    git(work, "checkout", "-q", "--orphan", "orphan")
    git(work, "rm", "-rfq", ".")
    clone.heads[4] = commit(record("orphan"))
    branch("two")
    commit(record("older"))
    clone.heads[5] = commit(record("newer"))
    branch("root")
    claims = record("claims")
    claims.pop(f"{RECORD}/claims/train_gpt.py")
    clone.heads[6] = commit({**claims, "train_gpt.py": SCRIPT + "# changed\n"})
    branch("links")
    commit({**record("links"), f"{RECORD}/links/weights.py": "WEIGHTS = 'long gone'\n"})
    (work / RECORD / "links" / "secrets.txt").symlink_to("/etc/passwd")
    git(work, "add", "-A")
    gitlink = f"160000,{clone.heads[1]},{RECORD}/links/module"
    git(work, "update-index", "--add", "--cacheinfo", gitlink)
    git(work, "commit", "-q", "-m", "links")
    clone.heads[7] = git(work, "rev-parse", "HEAD")
    branch("words")
    clone.heads[8] = commit({f"{RECORD}/words/README.md": "no code\n"})
    branch("leaky")
    clone.heads[9] = commit(record("leaky", LEAKY))
    branch("board")
    clone.heads[11] = commit({**record("board"), **BOARD})
    branch("nested")
    clone.heads[10] = commit({**record("nested"), **record("nested/again", LEAKY)})

    git(base, "init", "-q", "--bare", "-b", "main", str(bare))
    pulls = [f"{head}:refs/pull/{number}/head" for number, head in clone.heads.items()]
    git(work, "push", "-q", str(bare), "main", *pulls)
    lost = git(work, "rev-parse", f"{clone.heads[7]}:{RECORD}/links/weights.py")
    (bare / "objects" / lost[:2] / lost[2:]).unlink()
    return clone
