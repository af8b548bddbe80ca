"""The pages of the server beside the reports themselves: the form, and a refusal."""

import re
from html import escape

from auditor.report.html import document
from auditor.report.text import visible
from auditor.report.view import Audience

READERS = {
    Audience.REVIEWER: "reviewer: what was found, with precedents",
    Audience.SUBMITTER: "submitter: what to mend, and how",
    Audience.AUDITOR: "auditor: everything",
}
_POLICY = re.compile(r'http-equiv="Content-Security-Policy" content="([^"]+)"')


def home(*, with_clone: bool, with_dynamic: bool) -> str:
    """The form: a script to paste, and with a clone the number of a pull request."""
    readers = "".join(f'<option value="{value}">{text}</option>' for value, text in READERS.items())
    pull_request = (
        '<p><label for="pr">or a pull request of the clone</label>'
        '<input id="pr" name="pr" inputmode="numeric" pattern="[0-9]{1,7}" placeholder="700"></p>'
        if with_clone
        else ""
    )
    dynamic = (
        '<p><label><input type="checkbox" name="dynamic" value="1"> also run the scorer, in the '
        "sandbox (minutes)</label></p>"
        if with_dynamic
        else "<p class='dim'>No script is run: what only a run shows, the report lists.</p>"
    )
    body = f"""<main>
<header><h1>Does this score stand?</h1>
<p class="outcome">An audit of a Parameter Golf submission: what its code does with the tokens
that it scores, in which order, and what its logs and claims add up to.</p></header>
<form method="post" action="/audit" accept-charset="utf-8">
<p><label for="script">train_gpt.py</label>
<textarea id="script" name="script" rows="14" spellcheck="false" autocomplete="off"></textarea></p>
{pull_request}
<p><label for="audience">a report for the</label>
<select id="audience" name="audience">{readers}</select></p>
{dynamic}
<p><button>Audit</button></p>
</form>
</main>"""
    return document("Audit", body, forms=True)


def refusal(reason: str) -> str:
    """Why there is no report."""
    text = escape(visible(reason, 500), quote=True)
    return document(
        "No report",
        f'<main><header><h1>No report</h1><p class="warning">{text}</p></header>'
        '<p><a href="/">Back</a></p></main>',
    )


def policy(page: str) -> str:
    """The content security policy that a page states of itself, for the header."""
    found = _POLICY.search(page)
    return f"{found[1]}; frame-ancestors 'none'" if found else "default-src 'none'"
