"""Suggested patches as text: the list, or one diff that `patch -p1` takes."""

from auditor.dossier import Dossier


def listing(dossier: Dossier, diff_only: bool) -> str:
    """The patches of one script: their diffs alone, or what each is for."""
    if diff_only:
        return "".join(patch.diff for patch in dossier.patches)
    if not dossier.patches:
        return f"{dossier.audit.path}: no rule that failed has a certain legal variant\n"
    parts = []
    for patch in dossier.patches:
        added = sum(line[:1] == "+" and line[:3] != "+++" for line in patch.diff.splitlines())
        parts.append(f"{patch.path}: suggestion for {patch.rule}, {added} lines: {patch.words}\n")
    return "".join(parts)
