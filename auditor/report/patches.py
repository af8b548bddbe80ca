"""Suggested patches as text: the list, or one diff that `patch -p1` takes."""

from auditor.dossier import Dossier


def listing(dossier: Dossier, diff_only: bool) -> str:
    """The patches of one script: their diffs alone, or what each is for."""
    if diff_only:
        return "".join(patch.diff for patch in dossier.patches)
    if not dossier.patches:
        return f"{dossier.audit.path}: no rule that failed has a certain legal variant\n"
    return "".join(
        f"{patch.path}: suggestion for {patch.rule}: {patch.words}\n" for patch in dossier.patches
    )
