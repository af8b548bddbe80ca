"""L1: compiled code is shipped, which nobody can read."""

from collections.abc import Iterator

from auditor.finding import Axis, Confidence, Evidence, Finding, Status
from auditor.rules.base import Context, Rule

# The first bytes of executables and libraries: ELF, Mach-O (both orders), PE, Java, WebAssembly.
_MAGIC = (
    b"\x7fELF",
    b"\xcf\xfa\xed\xfe",
    b"\xfe\xed\xfa\xcf",
    b"\xca\xfe\xba\xbe",
    b"MZ",
    b"\0asm",
)


class NativePayload(Rule):
    """Knows compiled files by their first bytes, whatever they are called."""

    id = "L1"
    title = "a compiled program or library is part of the submission"
    axis = Axis.VALIDITY
    what = (
        "A file of the record folder that is an executable or a library in machine code, and that "
        "the script names. One that it does not name is a note."
    )
    why = (
        "Machine code can hold weights and tables that the artifact's size does not count, and "
        "cannot be reviewed."
    )
    source = (
        "README: any package, unless it smuggles in computation, capability or code; a system's "
        "compressor was accepted in PR 1855 after the question of PR 1856"
    )
    precedents = ("#1856",)
    legal = "Sources in C, C++, CUDA or Triton, compiled while running; packages; system tools."
    known_misses = (
        "machine code inside of another file or inside of a literal",
        "weights inside of a package",
    )

    def check(self, context: Context) -> Iterator[Finding]:
        """One finding for each compiled file, or a pass."""
        compiled = [
            (name, file)
            for name, file in sorted(context.submission.files.items())
            if file.data.startswith(_MAGIC)
        ]
        if not compiled:
            yield self.finding(Status.PASS, "no file is machine code")
            return
        sources = [module.source for module in context.program.modules]
        for name, file in compiled:
            here = (Evidence(file.path, 0, f"{len(file.data):,} bytes of machine code"),)
            base = name.rpartition("/")[2]
            if any(base in source for source in sources):
                yield self.finding(
                    Status.FAIL,
                    "the script names a file of machine code that is shipped with it",
                    here,
                    confidence=Confidence.MEDIUM,
                )
            else:
                yield self.finding(
                    Status.NOTE,
                    "a file of machine code is shipped; the script does not name it",
                    here,
                    confidence=Confidence.LOW,
                )
