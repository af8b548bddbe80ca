"""Native helpers: where they are found, how they are read, gates by the scored token in them."""

import sys

import pytest

from auditor.audit import audit_submission
from auditor.evidence.claims import read_claims
from auditor.finding import Confidence, Finding, Status
from auditor.policy import FRONTIER_2026_04
from auditor.program.index import Program, build
from auditor.program.token_gates import by_name, token_gates
from auditor.rules import Context
from auditor.rules.realised_token_gate import RealisedTokenGate
from auditor.submission.model import SourceFile, Submission
from auditor.submission.unpack import unpack

SCRIPT = b"""
import ctypes
import numpy as np

library = ctypes.CDLL("./memory.so")

def hints_of(ids, opens):
    hints = np.zeros(len(ids), dtype=np.uint32)
    library.fill(ids.ctypes, len(ids), opens.ctypes, hints.ctypes)
    return hints

print(hints_of(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16), np.load("opens.npy")))
"""
LOOP = """
void fill(const uint16_t *text, int n, const uint8_t *opens, uint32_t *hints) {
    for (int i = 1; i < n; i++) {
        %s
        best[key & 0xFFFF] = text[i];
        key = key * 31 + text[i];
    }
}
"""
GATED = LOOP % "if (!opens[text[i]]) hints[i] = best[key & 0xFFFF];"
LOG = "ngram_tilt:hints total=10 gated=3 within_gate=%d word_gate=%d\nfinal val_bpb:1.05\n"


def submission(script: bytes = SCRIPT, **files: str) -> Submission:
    held = {"train_gpt.py": SourceFile.of("folder/train_gpt.py", script)}
    for name, text in files.items():
        path = name.replace("_DOT_", ".")
        held[path] = SourceFile.of(f"folder/{path}", text.encode())
    return Submission(held["train_gpt.py"], held)


def program(shipped: Submission) -> Program:
    return build(shipped, unpack(shipped.main, shipped.files))


def finding(shipped: Submission) -> Finding:
    context = Context(shipped, program(shipped), read_claims(shipped))
    (found,) = RealisedTokenGate().check(context)
    return found


def gates(source: str) -> list[tuple[int, int]]:
    """(line that emits, line that decides) of every gate in a C++ source."""
    (native,) = program(submission(memory_DOT_cpp=source)).native
    found = token_gates(native.routines, by_name(native.routines))
    return [(gate.emitted.line, gate.decided.line) for gate in found]


@pytest.mark.parametrize(
    "body",
    [
        "if (!opens[text[i]]) hints[i] = best[key & 0xFFFF];",
        "if (opens[text[i]]) continue; hints[i] = best[key & 0xFFFF];",
        "hints[i] = opens[text[i]] ? 0 : best[key & 0xFFFF];",
        "auto now = uint16_t(text[i]); bool w = opens[now]; if (w && key) hints[i] = best[key];",
        "const uint16_t *p = text; if (opens[p[i]] == 1) { hints[i] = best[key]; }",
        "switch (opens[text[i]]) { case 0: hints[i] = best[key]; break; default: break; }",
        "int k = 0; while (k < opens[text[i]]) { hints[i] = best[key]; k++; }",
    ],
)
def test_gates_by_the_scored_token(body: str) -> None:
    assert gates(LOOP % body) == [(4, 4)]


@pytest.mark.parametrize(
    "body",
    [
        "hints[i] = best[key & 0xFFFF];",
        "if (opens[text[i - 1]]) hints[i] = best[key & 0xFFFF];",
        "hints[i] = best[key & 0xFFFF]; if (opens[text[i]]) key = 0;",
        "if (opens[best[key & 0xFFFF]]) hints[i] = best[key & 0xFFFF];",
        "if (opens[text[i]]) hints[i] = 1;",  # what is emitted remembers nothing
        "if (best[key] == text[i]) hints[i] = best[key];",
        "if (opens[text[i]]) hints[i] = best[text[i]];",  # a count of the token itself
        "if (opens[text[i]]) hints[i + 1] = best[key & 0xFFFF];",
    ],
)
def test_what_is_no_gate_by_the_scored_token(body: str) -> None:
    assert gates(LOOP % body) == []


def test_gates_cross_calls_references_and_methods() -> None:
    source = """
struct Memory {
    uint32_t best_[65536]; uint32_t key_;
    void propose(bool skip, uint32_t& out) const {
        if (skip) { out = 0; return; }
        out = best_[key_];
    }
    void learn(uint16_t now) { best_[key_] = now; key_ = key_ * 31 + now; }
    void fill(const int64_t* at, int n, uint32_t* hints) {
        for (int i = 0; i < n; ++i) {
            int64_t p = at[i];
            auto now = static_cast<uint16_t>(text_[p]);
            uint32_t hint;
            propose(opens_[now], hint);
            hints[i] = hint;
            learn(now);
        }
    }
};
"""
    assert gates(source) == [(15, 14)]
    assert gates(source.replace("opens_[now]", "opens_[text_[p - 1]]")) == []


def test_a_gate_that_runs_fails_and_quotes_the_native_file() -> None:
    found = finding(submission(memory_DOT_c=GATED))
    assert (found.status, found.confidence) == (Status.FAIL, Confidence.HIGH)
    (evidence,) = found.evidence
    assert (evidence.path, evidence.line) == ("folder/memory.c", 4)
    assert "opens[text[i]]" in evidence.text


def test_a_gate_in_a_helper_module_is_quoted_there() -> None:
    script = b"""
import numpy as np
from memory import Memory

def hints_of(ids, opens):
    hints, memory = [], Memory()
    for i, now in enumerate(ids):
        hints.append(memory.propose(opens[now]))
        memory.best[memory.key] = now
        memory.key = memory.key * 31 + now
    return hints

print(hints_of(np.fromfile("fineweb_val_000000.bin", dtype=np.uint16), np.load("opens.npy")))
"""
    helper = """
class Memory:
    def __init__(self):
        self.best, self.key = {}, 0

    def propose(self, skip):
        if skip:
            return 0
        return self.best.get(self.key, 0)
"""
    found = finding(submission(script, memory_DOT_py=helper))
    assert found.status is Status.FAIL
    assert [(e.path, e.line) for e in found.evidence] == [("folder/train_gpt.py", 8)]


def test_a_gate_that_nothing_calls_is_a_note() -> None:
    idle = SCRIPT.replace(b"library.fill", b"library.fold").replace(b"memory.so", b"other.so")
    assert finding(submission(idle, memory_DOT_c=GATED)).status is Status.NOTE


@pytest.mark.parametrize(
    ("within", "word", "status"),
    [(5, 0, Status.FAIL), (0, 7, Status.FAIL), (0, 0, Status.PASS)],
)
def test_logged_counters_decide_whether_a_gate_was_in_use(
    within: int, word: int, status: Status
) -> None:
    found = finding(submission(memory_DOT_c=GATED, train_DOT_log=LOG % (within, word)))
    assert found.status is status
    assert any(e.path.endswith("train.log") and e.line == 1 for e in found.evidence)


@pytest.mark.parametrize(("claim", "status"), [(1.03, Status.FAIL), (1.06, Status.NOTE)])
def test_superseded_logs_do_not_decide(claim: float, status: Status) -> None:
    shipped = submission(
        memory_DOT_c=GATED,
        old_DOT_log=LOG.replace("1.05", "1.03") % (5, 5),
        new_DOT_log=LOG.replace("1.05", "1.06") % (0, 0),
        submission_DOT_json=f'{{"val_bpb": {claim}}}',
    )
    assert finding(shipped).status is status


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ("WITHIN_BOOST=0.0 WORD_BOOST=0", Status.PASS),
        ("WITHIN_TAU=99.0 WORD_TAU=1.5", Status.PASS),
        ("WITHIN_BOOST=0.0 WORD_BOOST=0.5", Status.FAIL),
        ("WITHIN_TAU=0.9 WORD_TAU=99", Status.FAIL),
    ],
)
def test_settings_may_silence_a_gate(settings: str, status: Status) -> None:
    launcher = f"{settings} python train_gpt.py\n"
    assert finding(submission(memory_DOT_c=GATED, run_DOT_sh=launcher)).status is status


def test_counters_alone_count_unless_the_code_was_read_and_does_otherwise() -> None:
    unread = finding(submission(train_DOT_log=LOG % (5, 5)))
    assert (unread.status, unread.confidence) == (Status.FAIL, Confidence.HIGH)
    clean = LOOP % "if (opens[text[i - 1]]) hints[i] = best[key];"
    read = finding(submission(memory_DOT_c=clean, train_DOT_log=LOG % (5, 5)))
    assert (read.status, read.confidence) == (Status.FAIL, Confidence.LOW)


def test_sources_in_strings_keep_their_lines() -> None:
    script = b'\n\nSOURCE = """\n#include <stdint.h>\n' + GATED.encode() + b'"""\n'
    (native,) = program(submission(script)).native
    (routine,) = native.routines
    assert (native.line, routine.name, routine.line) == (3, "fill", 6)
    one_line = b"SOURCE = " + repr("#include <stdint.h>\n" + GATED).encode()
    ((again,),) = [s.routines for s in program(submission(one_line)).native]
    assert (again.name, again.line) == ("fill", 1)


def test_what_is_not_read_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = b"import triton\n@triton.jit\ndef fused(x):\n    pass\n" + SCRIPT
    shipped = submission(kernel, memory_DOT_so="\x7fELF", table_DOT_rs="fn main() {}")
    said = audit_submission(shipped, policy=FRONTIER_2026_04).not_examined
    assert any("memory.so: a compiled library" in note for note in said)
    assert any("table.rs: Rust" in note for note in said)
    assert any("Triton" in note and "fused" in note for note in said)
    monkeypatch.setitem(sys.modules, "tree_sitter", None)
    said = audit_submission(submission(memory_DOT_c=GATED), policy=FRONTIER_2026_04).not_examined
    assert any("folder/memory.c: C code" in note and "`native`" in note for note in said)


def test_deeply_nested_native_code_is_a_problem_not_a_crash() -> None:
    deep = "int f(int x) { return " + "(" * 20_000 + "x" + ")" * 20_000 + "; }\n"
    (native,) = program(submission(deep_DOT_c=deep)).native
    assert native.problem == "nested too deeply to be read"
