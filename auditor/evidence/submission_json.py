"""Reads `submission.json`. The field uses hundreds of key sets, so names are tried in order."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from auditor.evidence.figures import Figure, JsonClaims
from auditor.evidence.json_lines import MAX_DEPTH, JsonError, Path, parse
from auditor.evidence.track import NON_RECORD
from auditor.finding import Evidence
from auditor.submission.model import SourceFile

BPB_KEYS = ("val_bpb", "mean_val_bpb", "val_bpb_mean", "final_val_bpb", "mean_bpb", "bpb")
LOSS_KEYS = ("val_loss", "mean_val_loss", "val_loss_mean", "final_val_loss")
TOTAL_KEYS = (
    "bytes_total",
    "artifact_bytes_max",
    "artifact_bytes",
    "total_bytes",
    "bytes_total_max",
    "submission_bytes",
    "submission_size_bytes",
    "total_submission_bytes",
    "total_submission_size_bytes",
    "artifact_size_bytes",
)
CODE_KEYS = ("bytes_code", "code_bytes", "code_size_bytes")
MODEL_KEYS = ("bytes_model", "model_bytes", "compressed_model_bytes")
SEED_TABLES = (
    "seed_results",
    "per_seed",
    "per_seed_results",
    "seed_scores",
    "seeds",
    "results",
    "runs",
)
# Tables of scores that a key of their own names, and an object for each seed at the top.
SCORE_TABLE = re.compile(r"(?:val_)?bpbs?(?:_per|_by)?_seeds?|(?:per_)?seed_(?:val_)?bpbs?")
ONE_SEED = re.compile(r"seed_?(\d{1,15})")
EXACT_BPB = "val_bpb_exact"
# Where a submission may say that it is no record, beside its track.
KIND_KEYS = (
    "type",
    "submission_type",
    "submission_kind",
    "record_type",
    "category",
    "status",
    "name",
)
OPENING_KEYS = ("blurb", "summary", "description", "notes")
NO_RECORD_FLAGS = {"non_record": True, "record": False, "is_record": False}
# A key with one of these words speaks of another score than the submitted one.
OTHER_SCORE = re.compile(
    r"pre|std|delta|improve|baseline|gain|min|max|prior|sota|previous|before|diff|without|sem|var"
)
TEXT_LIMIT = 200


def read_submission_json(file: SourceFile) -> JsonClaims | Evidence:
    """The claims of a `submission.json`, or what is wrong with it and on which line."""
    try:
        text = file.data.decode("utf-8-sig")
        value, lines = parse(text)
    except UnicodeDecodeError as error:
        line = file.data.count(b"\n", 0, error.start) + 1
        return Evidence(file.path, line, f"not UTF-8: byte 0x{file.data[error.start]:02x}")
    except JsonError as error:
        return Evidence(file.path, error.line, f"not JSON: {error}")
    if not isinstance(value, dict):
        return Evidence(file.path, 1, "not a JSON object at the top")
    return _Reader(file.path, value, lines).claims()


class _Reader:
    """Looks figures up in one parsed file."""

    def __init__(self, path: str, top: Mapping[str, Any], lines: Mapping[Path, int]) -> None:
        self.path = path
        self.top = top
        self.lines = lines

    def claims(self) -> JsonClaims:
        """Everything that the file says."""
        return JsonClaims(
            path=self.path,
            keys=tuple(self.top),
            val_bpb=self._first(BPB_KEYS) or self._any_bpb(),
            val_loss=self._first(LOSS_KEYS),
            bytes_total=self._largest(TOTAL_KEYS),
            bytes_code=self._first(CODE_KEYS),
            bytes_model=self._first(MODEL_KEYS)
            or self._first(k for k in self.top if k.startswith("bytes_model")),
            seeds=tuple(self._seeds()),
            seed_bpb=tuple(self._seed_scores()),
            track=self._track(),
            hardware=self._text("hardware"),
            date=self._text("date"),
        )

    def _figure(self, path: Path, value: Any) -> Figure | None:
        """A number at a path. Numbers in strings count; null, NaN and truth values do not."""
        if isinstance(value, str):
            try:
                value = float(value.replace(",", "").replace("_", ""))
            except ValueError:
                return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        try:
            if not math.isfinite(value):
                return None
        except OverflowError:
            return None
        key = ".".join(map(str, path))
        return Figure(value, Evidence(self.path, self._line(path), f"{key}: {value}"[:TEXT_LIMIT]))

    def _line(self, path: Path) -> int:
        return self.lines.get(path[: MAX_DEPTH + 1], 0)

    def _first(self, keys: Any) -> Figure | None:
        """The first of some top-level keys that holds a number, or an object with its mean."""
        for key in keys:
            value = self.top.get(key)
            if isinstance(value, dict) and "mean" in value:
                figure = self._figure((key, "mean"), value["mean"])
            else:
                figure = self._figure((key,), value)
            if figure is not None:
                return figure
        return None

    def _any_bpb(self) -> Figure | None:
        return self._first(
            key for key in self.top if "bpb" in key.lower() and not OTHER_SCORE.search(key.lower())
        )

    def _largest(self, keys: tuple[str, ...]) -> Figure | None:
        """The largest number under any of some keys, at the top or for each seed."""
        figures = [
            figure
            for path, value in self._walk((), self.top)
            if path[-1] in keys and (figure := self._figure(path, value)) is not None
        ]
        return max(figures, key=lambda figure: figure.value, default=None)

    def _walk(self, path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
        children: Any = ()
        if isinstance(value, dict):
            children = value.items()
        elif isinstance(value, list):
            children = enumerate(value)
        for key, child in children if len(path) < MAX_DEPTH else ():
            yield (*path, key), child
            yield from self._walk((*path, key), child)

    def _tables(self) -> Iterator[list[tuple[Path, Any, Any]]]:
        """The tables by seed, each as entries: path, seed (or None) and value."""
        scores = [name for name in self.top if SCORE_TABLE.fullmatch(name)]
        for name in (*SEED_TABLES, *scores):
            table = self.top.get(name)
            if isinstance(table, dict):
                yield [
                    ((name, key), re.sub(r"^seed[_ ]?", "", key), value)
                    for key, value in table.items()
                ]
            elif isinstance(table, list):
                plain = name == "seeds"
                yield [
                    (
                        (name, index),
                        value.get("seed") if isinstance(value, dict) else value if plain else None,
                        value,
                    )
                    for index, value in enumerate(table)
                ]
        single = [(key, ONE_SEED.fullmatch(key)) for key in self.top]
        yield [((key,), found[1], self.top[key]) for key, found in single if found is not None]

    def _seeds(self) -> Iterator[Figure]:
        named: list[tuple[Path, Any]] = [(("seed",), self.top.get("seed"))]
        named += [(path, seed) for table in self._tables() for path, seed, _ in table]
        found: dict[float, Figure] = {}
        for path, seed in named:
            figure = self._figure(path, seed)
            if figure is not None and float(figure.value).is_integer():
                text = f"{path[0]}: {int(figure.value)}"
                evidence = Evidence(self.path, self._line(path), text)
                found.setdefault(figure.value, Figure(int(figure.value), evidence))
        return iter(found.values())

    def _seed_scores(self) -> list[Figure]:
        """The scores of the longest table by seed that has any: others repeat or differ."""
        tables = [
            [figure for entry in table if (figure := self._seed_score(entry)) is not None]
            for table in self._tables()
        ]
        return max(tables, key=len, default=[])

    def _seed_score(self, entry: tuple[Path, Any, Any]) -> Figure | None:
        path, seed, value = entry
        if isinstance(value, dict):
            figures = (self._figure((*path, key), value.get(key)) for key in (EXACT_BPB, *BPB_KEYS))
            return next((figure for figure in figures if figure is not None), None)
        if isinstance(seed, str) and not seed.isdecimal():  # a mean or deviation among them
            return None
        if path[0] != "seeds" or isinstance(value, float):
            return self._figure(path, value)
        return None

    def _track(self) -> Evidence | None:
        """The track; if the file says elsewhere that it is no record, what says so."""
        said = [self._text(key) for key in ("track", *KIND_KEYS)]
        openings = [self._text(key) for key in OPENING_KEYS]
        said += [text for text in openings if text is not None and NON_RECORD.match(text.text)]
        said += [
            Evidence(self.path, self._line((key,)), f"non-record ({key}: {value})")
            for key, value in NO_RECORD_FLAGS.items()
            if self.top.get(key) is value
        ]
        none = (text for text in said if text is not None and NON_RECORD.search(text.text))
        return next(none, said[0])

    def _text(self, key: str) -> Evidence | None:
        value = self.top.get(key)
        if not isinstance(value, str) or not value.strip():
            return None
        return Evidence(self.path, self._line((key,)), value.strip()[:TEXT_LIMIT])
