"""submission.json in its many shapes: figures with their line; faults with line and column."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.evidence.figures import JsonClaims
from auditor.evidence.json_lines import JsonError, parse
from auditor.evidence.submission_json import read_submission_json
from auditor.evidence.track import another_track
from auditor.finding import Evidence
from auditor.submission.model import SourceFile


def read(text: str | bytes) -> JsonClaims | Evidence:
    """The claims of a text."""
    data = text if isinstance(text, bytes) else text.encode()
    return read_submission_json(SourceFile.of("records/a/submission.json", data))


def claims(text: str | bytes) -> JsonClaims:
    """The claims of a text that can be read."""
    found = read(text)
    assert isinstance(found, JsonClaims)
    return found


FULL = """\
{
  "name": "a name",
  "track": "10min_16mb",
  "hardware": "8xH100 SXM",
  "mean_val_bpb": 1.0541,
  "val_loss": "1.78",
  "seed_results": {
    "1337": {"val_bpb": 1.05, "artifact_bytes": 15892040},
    "seed_42": {"val_bpb": 1.06, "artifact_bytes": "15,693,903"}
  },
  "code_bytes": 97234
}
"""


def test_figures_know_their_line() -> None:
    found = claims(FULL)
    assert found.val_bpb is not None
    assert found.val_bpb.value == 1.0541
    assert found.val_bpb.evidence == Evidence(
        "records/a/submission.json", 5, "mean_val_bpb: 1.0541"
    )
    assert found.val_loss is not None
    assert (found.val_loss.value, found.val_loss.evidence.line) == (1.78, 6)
    assert found.bytes_total is not None
    assert (found.bytes_total.value, found.bytes_total.evidence.line) == (15892040, 8)
    assert found.bytes_code is not None
    assert (found.bytes_code.value, found.bytes_code.evidence.line) == (97234, 11)
    assert [(f.value, f.evidence.line) for f in found.seeds] == [(1337, 8), (42, 9)]
    assert [f.value for f in found.seed_bpb] == [1.05, 1.06]
    assert found.track is not None
    assert (found.track.text, found.track.line) == ("10min_16mb", 3)
    assert found.hardware is not None
    assert found.hardware.text == "8xH100 SXM"


@pytest.mark.parametrize(
    ("text", "bpb"),
    [
        ('{"val_bpb": 1.1}', 1.1),
        ('{"val_bpb": "1.1"}', 1.1),
        ('{"val_bpb": null, "mean_val_bpb": 1.2}', 1.2),
        ('{"val_bpb": {"mean": 1.3, "std": 0.1}}', 1.3),
        ('{"val_bpb_std": 0.01, "pre_quant_val_bpb": 1.0, "sliding_val_bpb": 1.4}', 1.4),
        ('{"val_bpb": NaN}', None),
        ('{"val_bpb": true}', None),
        ('{"val_bpb": 1e999}', None),
        ('{"val_bpb": "pending"}', None),
        ('{"improvement_bpb": 0.2, "baseline_bpb": 1.2}', None),
        ("{}", None),
        ('\ufeff{"val_bpb": 1.1}', 1.1),
    ],
)
def test_the_score_under_its_many_names(text: str, bpb: float | None) -> None:
    figure = claims(text).val_bpb
    assert (figure.value if figure else None) == bpb


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ('{"seeds": [1, 2, 3]}', [1, 2, 3]),
        ('{"seeds": {"1": 1.1, "2": 1.2}}', [1, 2]),
        ('{"seed": 7}', [7]),
        ('{"seed_results": [{"seed": 5, "val_bpb": 1.1}, {"seed": "6"}]}', [5, 6]),
        ('{"seeds": [1, 1, 2.5, "x", null]}', [1]),
    ],
)
def test_seeds_in_every_shape(text: str, seeds: list[int]) -> None:
    assert [int(f.value) for f in claims(text).seeds] == seeds


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('{\n  "a": 1,\n  "b" 2\n}', 3, "line 3, column 7: Expecting ':' delimiter"),
        ("", 1, "the file is empty"),
        ("\ufeff  \n", 1, "the file is empty"),
        ("[1, 2]", 1, "not a JSON object"),
        (b'{\n"a": "\xff"}', 2, "not UTF-8: byte 0xff"),
        ("[" * 100_000, 1, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", 1, "not JSON"),
    ],
)
def test_what_is_malformed_is_named_with_its_place(
    text: str | bytes, line: int, words: str
) -> None:
    found = read(text)
    assert isinstance(found, Evidence)
    assert found.line == line
    assert words in found.text


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(value=VALUES, indent=st.sampled_from([None, 0, 2]))
def test_every_value_has_the_line_that_it_stands_on(value: object, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    parsed, lines = parse(text)
    assert parsed == value

    def check(path: tuple[str | int, ...], inner: object) -> None:
        line = text.splitlines()[lines[path] - 1]
        if isinstance(inner, dict):
            assert "{" in line
            for key, child in inner.items():
                check((*path, key), child)
        elif isinstance(inner, list):
            assert "[" in line
            for index, child in enumerate(inner):
                check((*path, index), child)
        else:
            assert json.dumps(inner) in line

    check((), parsed)


def test_a_trailing_brace_is_an_error_with_line_and_column() -> None:
    with pytest.raises(JsonError) as caught:
        parse('{"a": 1}\n}')
    assert (caught.value.line, caught.value.column) == (2, 1)


@pytest.mark.parametrize(
    "text",
    [
        '{"val_bpb_seeds": {"1": 1.1, "2": 1.2}}',
        '{"val_bpb_per_seed": {"1": 1.1, "2": 1.2, "std": 0.07}}',
        '{"val_bpb_by_seed": {"1": 1.1, "2": 1.2}, "bytes_total_by_seed": {"1": 5, "2": 6}}',
        '{"per_seed_val_bpb": ["1.1", "1.2"]}',
        '{"seed_bpbs": [1.1, 1.2]}',
        '{"seed_1": {"val_bpb": 1.1}, "seed_2": {"val_bpb": 1.0, "val_bpb_exact": 1.2}}',
        '{"seeds": [1, 2], "seed_results": {"1": {"val_bpb": 1.1}, "2": {"val_bpb": 1.2}}}',
        '{"seeds": [{"seed": 1, "val_bpb": 1.1}, {"seed": 2, "val_bpb": 1.2}]}',
    ],
)
def test_scores_by_seed_are_read_in_every_shape(text: str) -> None:
    assert [figure.value for figure in claims(text).seed_bpb] == [1.1, 1.2]


@pytest.mark.parametrize(
    ("text", "record"),
    [
        ('{"track": "10min_16mb"}', True),
        ('{"track": "10min_16mb", "blurb": "Better than every non-record run."}', True),
        ('{"record": true, "type": "record"}', True),
        ('{"track": "non-record-16mb"}', False),
        ('{"type": "non-record"}', False),
        ('{"status": "non_record_exploratory", "track": "10min"}', False),
        ('{"name": "An idea (non-record)"}', False),
        ('{"summary": "Non-record: an idea."}', False),
        ('{"is_record": false}', False),
        ('{"non_record": true}', False),
    ],
)
def test_a_submission_may_say_in_many_places_that_it_is_no_record(text: str, record: bool) -> None:
    assert another_track(claims(text), "records/a/train_gpt.py") is not record
