"""A small record script of our own that carries the fault of PR 700, and its twin without it.

They are the quickest way to see what an audit says: no clone is needed.
"""

from importlib.resources import files

from auditor.finding import Audit
from auditor.submission.model import SourceFile, Submission

FAULTY, FIXED = "train_gpt.py", "train_gpt_fixed.py"


def submission(*, fixed: bool = False) -> Submission:
    """The shipped script as a submission of one file."""
    name = FIXED if fixed else FAULTY
    main = SourceFile.of(name, files(__name__).joinpath(name).read_bytes())
    return Submission(main, {name: main})


def run(*, fixed: bool = False, dynamic: bool = True) -> Audit:
    """Audits the shipped script under the default policy."""
    from auditor.audit import DEFAULT_POLICY, Probing, audit_submission  # it knows no demo
    from auditor.policy import policy

    probing = Probing(seconds=0) if dynamic else False
    return audit_submission(submission(fixed=fixed), policy=policy(DEFAULT_POLICY), dynamic=probing)
