"""Loading: the right folder of a pull request, every file bound to its hash, nothing followed."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from auditor.errors import AuditError
from auditor.submission.folder import MAX_FILE_BYTES, candidates, main_script
from auditor.submission.git import Clone
from auditor.submission.load import load_pull_request, load_target
from auditor.submission.model import blob_hash

RECORD = "records/track_10min_16mb"


@pytest.mark.parametrize(
    ("pr", "folder"),
    [(1, "open"), (2, "merged"), (3, "straight"), (4, "orphan")],
    ids=["open", "merged by a merge commit", "on the main line", "no common history"],
)
def test_a_pull_request_is_its_own_folder(challenge: Any, pr: int, folder: str) -> None:
    (submission,) = load_pull_request(challenge.path, pr)
    assert submission.main.path == f"{RECORD}/{folder}/train_gpt.py"
    assert submission.head == challenge.heads[pr]
    assert submission.pr == pr
    assert sorted(submission.files) == [
        "README.md",
        "submission.json",
        "train_gpt.py",
        "train_seed1.log",
    ]
    assert submission.is_folder


def test_files_carry_the_hash_that_git_knows_them_by(challenge: Any) -> None:
    (submission,) = load_pull_request(challenge.path, 1)
    tree = {e.path.decode(): e.oid for e in Clone(challenge.path).tree(challenge.heads[1])}
    assert all(tree[file.path] == file.blob for file in submission.files.values())


def test_several_record_folders_are_all_reported_the_newest_first(challenge: Any) -> None:
    paths = [s.main.path for s in load_pull_request(challenge.path, 5)]
    assert paths == [f"{RECORD}/newer/train_gpt.py", f"{RECORD}/older/train_gpt.py"]


def test_a_record_folder_inside_another_is_a_submission_of_its_own(challenge: Any) -> None:
    outer, inner = load_pull_request(challenge.path, 10)
    assert outer.main.path == f"{RECORD}/nested/train_gpt.py"
    assert inner.main.path == f"{RECORD}/nested/again/train_gpt.py"
    assert sorted(outer.files) == sorted(inner.files)
    assert all(file.path.startswith(f"{RECORD}/nested/again/") for file in inner.files.values())


def test_folders_with_claims_of_their_own_count_beside_record_folders() -> None:
    changed = [f"{RECORD}/a/train_gpt.py", "final/train_gpt.py", "tools/train_gpt.py", "b/plot.py"]
    first, *_ = candidates(changed, ["final/submission.json", "b/submission.json"])
    assert first == ["final", f"{RECORD}/a"]


def test_a_script_at_the_root_keeps_the_claims_of_its_record_folder(challenge: Any) -> None:
    (submission,) = load_pull_request(challenge.path, 6)
    assert submission.main.path == "train_gpt.py"
    assert submission.main.data.endswith(b"# changed\n")
    assert submission.files["submission.json"].path == f"{RECORD}/claims/submission.json"
    assert submission.files["README.md"].data == b"# A record\n"


def test_links_are_named_and_not_followed_and_a_missing_blob_is_no_end(challenge: Any) -> None:
    (submission,) = load_pull_request(challenge.path, 7)
    assert submission.unread == {
        "module": "a submodule: not followed",
        "secrets.txt": "a symbolic link: not followed",
        "weights.py": "its blob is missing from this clone",
    }
    assert not set(submission.unread) & set(submission.files)


def test_a_missing_blob_is_never_fetched(challenge: Any, tmp_path: Path) -> None:
    copy = tmp_path / "partial.git"
    subprocess.run(["cp", "-r", str(challenge.path), str(copy)], check=True)
    trap = tmp_path / "fetched"
    helper = tmp_path / "upload-pack"
    helper.write_text(f"#!/bin/sh\ntouch {trap}\n")
    helper.chmod(0o755)
    for name, value in (
        ("core.repositoryformatversion", "1"),
        ("extensions.partialclone", "origin"),
        ("remote.origin.promisor", "true"),
        ("remote.origin.url", str(challenge.path)),
        ("remote.origin.uploadpack", str(helper)),
    ):
        subprocess.run(["git", "-C", str(copy), "config", name, value], check=True)
    (submission,) = load_pull_request(copy, 7)
    assert "weights.py" in submission.unread
    assert not trap.exists()


def test_the_callers_git_variables_change_nothing(
    challenge: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(tmp_path))
    (submission,) = load_pull_request(challenge.path, 1)
    assert submission.main.path == f"{RECORD}/open/train_gpt.py"


def test_at_takes_a_unique_prefix_in_either_case(challenge: Any) -> None:
    older = Clone(challenge.path).commit(challenge.heads[2][:10])
    (submission,) = load_pull_request(challenge.path, 1, at=older[:12].upper())
    assert submission.head == older
    assert submission.main.path == f"{RECORD}/merged/train_gpt.py"


def test_an_ambiguous_prefix_is_refused_with_its_candidates(
    challenge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = Clone(challenge.path)
    both = [challenge.heads[1], challenge.heads[2]]
    monkeypatch.setattr(clone, "_try", lambda *_: "\n".join(both))
    with pytest.raises(AuditError, match="ambiguous") as caught:
        clone.commit("abcd")
    assert all(head[:12] in str(caught.value) for head in both)


@pytest.mark.parametrize("prefix", ["xyz", "--output=/tmp/x", "main", "HEAD", "ab"])
def test_only_hexadecimal_digits_name_a_commit(challenge: Any, prefix: str) -> None:
    with pytest.raises(AuditError, match="hexadecimal"):
        Clone(challenge.path).commit(prefix)


def test_what_is_missing_is_named_with_its_mend(challenge: Any, tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"no pull request 77.*git fetch"):
        load_pull_request(challenge.path, 77)
    with pytest.raises(AuditError, match="no commit 00000000"):
        load_pull_request(challenge.path, 1, at="00000000")
    with pytest.raises(AuditError, match="adds or changes no training script"):
        load_pull_request(challenge.path, 8)
    with pytest.raises(AuditError, match="no such folder"):
        load_pull_request(tmp_path / "nowhere", 1)
    with pytest.raises(AuditError, match="not a git clone"):
        load_pull_request(tmp_path, 1)


def test_every_pull_request_of_a_clone_is_listed(challenge: Any) -> None:
    assert Clone(challenge.path).pull_requests() == sorted(challenge.heads)


def test_a_lone_script_is_no_folder(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_bytes(b"print(1)\n")
    (submission,) = load_target(script)
    assert submission.main.blob == blob_hash(b"print(1)\n")
    assert not submission.is_folder
    assert list(submission.files) == ["mine.py"]


def test_a_folder_of_record_folders_holds_each_of_them(tmp_path: Path) -> None:
    for name in ("b", "a"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "train_gpt.py").write_text("print(1)\n")
        (folder / "submission.json").write_text("{}")
    found = load_target(tmp_path)
    assert [s.main.path for s in found] == [
        f"{tmp_path}/a/train_gpt.py",
        f"{tmp_path}/b/train_gpt.py",
    ]
    assert all(sorted(s.files) == ["submission.json", "train_gpt.py"] for s in found)


def test_a_local_link_is_not_followed_and_a_huge_file_not_read(tmp_path: Path) -> None:
    (tmp_path / "train_gpt.py").write_text("print(1)\n")
    (tmp_path / "evil.log").symlink_to("/etc/passwd")
    (tmp_path / "loop").symlink_to(tmp_path)
    with (tmp_path / "train.log").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    (submission,) = load_target(tmp_path)
    assert list(submission.files) == ["train_gpt.py"]
    assert submission.unread["evil.log"] == "a symbolic link: not followed"
    assert submission.unread["loop"] == "a symbolic link: not followed"
    assert "over the limit" in submission.unread["train.log"]


def test_a_huge_main_script_is_a_result_of_a_folder_and_an_error_alone(tmp_path: Path) -> None:
    script = tmp_path / "train_gpt.py"
    with script.open("wb") as file:
        file.truncate(200 << 20)
    (submission,) = load_target(tmp_path)
    assert submission.main.data == b""
    assert "over the limit" in submission.unread["train_gpt.py"]
    with pytest.raises(AuditError, match="over the limit"):
        load_target(script)


def test_targets_that_are_nothing_to_audit(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="no such file"):
        load_target(tmp_path / "nowhere.py")
    with pytest.raises(AuditError, match="no Python script"):
        load_target(tmp_path)
    os.mkfifo(tmp_path / "pipe.py")
    with pytest.raises(AuditError, match="not a regular file"):
        load_target(tmp_path / "pipe.py")


@pytest.mark.parametrize(
    ("files", "main"),
    [
        ({"train_gpt.py": 1, "train_gpt_v5.py": 9}, "train_gpt.py"),
        ({"train_gpt_mlx.py": 9, "train_gpt_v5.py": 1}, "train_gpt_v5.py"),
        ({"train_gpt_mlx.py": 1, "deep/train_gpt.py": 9}, "train_gpt_mlx.py"),
        ({"deep/train_gpt.py": 1, "train.py": 9}, "deep/train_gpt.py"),
        ({"train_mdlm.py": 1, "submission.py": 9}, "train_mdlm.py"),
        ({"small.py": 1, "large.py": 2, "setup.py": 9, "test_it.py": 9}, "large.py"),
        ({"setup.py": 1, "README.md": 2, "lib/deep.py": 3}, None),
    ],
)
def test_the_main_script_is_the_best_of_its_tiers(files: dict[str, int], main: str | None) -> None:
    assert main_script(files) == main
