"""The program index and the run configuration."""

from auditor.evidence.claims import Claims, read_claims
from auditor.program.configuration import read_configuration
from auditor.program.index import build
from auditor.submission.model import SourceFile, Submission
from auditor.submission.unpack import unpack


def _submission(main: str, **others: str) -> Submission:
    files = {"train_gpt.py": SourceFile.of("train_gpt.py", main.encode())}
    for name, text in others.items():
        path = name.replace("__", "/").replace("_DOT_", ".")
        files[path] = SourceFile.of(path, text.encode())
    return Submission(files["train_gpt.py"], files, is_folder=True)


def test_definitions_by_qualified_name() -> None:
    source = "class A:\n    def f(self):\n        def g(): pass\n\nif 1:\n    def h(): pass\n"
    submission = _submission(source)
    program = build(submission, unpack(submission.main, submission.files))
    assert set(program.main.functions) == {"A.f", "A.f.g", "h"}
    assert set(program.main.classes) == {"A"}
    assert program.main.line(2) == "def f(self):"


def test_siblings_are_those_that_are_imported() -> None:
    submission = _submission(
        "from helpers import mixer\n",
        helpers__mixer_DOT_py="import other\n",
        other_DOT_py="x = 1\n",
        unused_DOT_py="y = 2\n",
    )
    program = build(submission, unpack(submission.main, submission.files))
    assert set(program.siblings) == {"helpers.mixer", "other"}


def test_what_ran_weighs_more_than_what_is_written() -> None:
    readme = "Try `LR=9`.\n```bash\nLR=1 EPOCHS=2 SEED=3 torchrun train_gpt.py\n```\n"
    log = (
        "Hyperparameters:\n  epochs: 5\n  adapt: True\nworld_size:4 grad\n"
        "step:1/1 val_loss:2.0 val_bpb:1.2\n"
    )
    submission = _submission("", README_DOT_md=readme, run_DOT_sh="SEED=4 python x.py\n")
    submission = Submission(
        submission.main,
        {**submission.files, "train.log": SourceFile.of("train.log", log.encode())},
        is_folder=True,
    )
    environment = read_configuration(submission, read_claims(submission)).environment
    assert environment["LR"] == "1"
    assert environment["SEED"] == "4"
    assert environment["EPOCHS"] == "5"
    assert environment["ADAPT"] == "1"
    assert environment["WORLD_SIZE"] == "4"


def test_commands_that_disagree_leave_the_default() -> None:
    readme = "```\nLR=1 torchrun a.py\n```\n```\nLR=2 torchrun a.py\n```\n"
    submission = _submission("", README_DOT_md=readme)
    assert "LR" not in read_configuration(submission, Claims()).environment
