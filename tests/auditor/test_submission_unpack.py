"""Unpacking: every shape of wrapper gives the source that would run, and nothing is ever run."""

import base64
import bz2
import gzip
import lzma
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.submission.load import load_pull_request
from auditor.submission.model import SourceFile
from auditor.submission.unpack import Unpacked, unpack

PAYLOAD = """\
import os


class Hyperparameters:
    layers = int(os.environ.get("NUM_LAYERS", 9))


def main():
    print(f"layers {Hyperparameters.layers}")


if __name__ == "__main__":
    main()
"""
RAW_FILTERS = "[{'id': lzma.FILTER_LZMA2}]"


def raw_lzma(data: bytes) -> bytes:
    return lzma.compress(data, lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2}])


def b85(data: bytes) -> str:
    return base64.b85encode(data).decode()


def opened(source: str | bytes, beside: Mapping[str, bytes] | None = None) -> Unpacked:
    """Unpacks a main script with other files beside it."""
    data = source if isinstance(source, bytes) else source.encode()
    main = SourceFile.of("records/a/train_gpt.py", data)
    files = {n: SourceFile.of(f"records/a/{n}", d) for n, d in (beside or {}).items()}
    return unpack(main, {"train_gpt.py": main, **files})


def packed_with(codec: str, data: bytes, base: str = "b85") -> str:
    """The usual wrapper: `exec` of a decompressed literal."""
    text = getattr(base64, f"{base}encode")(data).decode()
    return f"import {codec}, base64\nexec({codec}.decompress(base64.{base}decode({text!r})))"


P = PAYLOAD.encode()
Z = b85(zlib.compress(P))
WRAPPERS: Mapping[str, str] = {
    "raw lzma": "import lzma,base64\n"
    f"exec(lzma.decompress(base64.b85decode({b85(raw_lzma(P))!r}),"
    f"format=lzma.FORMAT_RAW,filters={RAW_FILTERS}))",
    "raw lzma with aliases and a preset": "import base64 as B\nimport lzma as L\n"
    f"exec(L.decompress(B.b85decode({b85(raw_lzma(P))!r}),L.FORMAT_RAW,None,"
    "[{'id':L.FILTER_LZMA2,'preset':9|L.PRESET_EXTREME}]).decode('utf-8'))",
    "xz": packed_with("lzma", lzma.compress(P)),
    "xz in base64": packed_with("lzma", lzma.compress(P), "b64"),
    "zlib from imports": "from base64 import b85decode\nfrom zlib import decompress\n"
    f"exec(decompress(b85decode({Z!r})).decode())",
    "gzip": packed_with("gzip", gzip.compress(P), "a85"),
    "bzip2": packed_with("bz2", bz2.compress(P), "b32"),
    "base16": packed_with("zlib", zlib.compress(P), "b16"),
    "brotli": packed_with("brotli", brotli.compress(P)),
    "pieces joined": "import zlib,base64\n"
    f"_D = ({Z[:40]!r},\n {Z[40:]!r})\n"
    "exec(zlib.decompress(base64.b85decode(''.join(_D))))",
    "newlines stripped": "import zlib,base64\n"
    f"_b = {(Z[:30] + chr(10) + Z[30:]).encode()!r}\n"
    "exec(zlib.decompress(base64.b85decode(_b.replace(b'\\n', b''))).decode('utf-8'))",
    "added to a name": "import zlib,base64\n_d = ''\n"
    f"_d += {Z[:30]!r}\n_d += {Z[30:]!r}\n"
    "exec(compile(zlib.decompress(base64.b85decode(_d)), 'train_gpt', 'exec'), globals())",
    "line cache": "import lzma as L, base64 as B, linecache as C\n"
    f"S=L.decompress(B.b85decode({b85(lzma.compress(P))!r})).decode()\n"
    "F=__file__+'.decompressed.py'\nC.cache[F]=(len(S),None,S.splitlines(True),F)\n"
    "exec(compile(S,F,'exec'))",
    "run from a temporary folder": "import zlib, base64, tempfile, os, runpy\n"
    f"_c = zlib.decompress(base64.b85decode({Z!r}))\n"
    "_f = os.path.join(tempfile.mkdtemp(), 'train_gpt.py')\nopen(_f, 'wb').write(_c)\n"
    "runpy.run_path(_f, run_name='__main__')",
    "loaded by its specification under a lock": "import zlib, base64, os, sys, fcntl\n"
    "import importlib.util as U\n"
    f"_c = zlib.decompress(base64.b85decode({Z!r}))\n_p = '/tmp/inner.py'\n"
    "with open('/tmp/lock', 'w') as _l:\n    fcntl.flock(_l, fcntl.LOCK_EX)\n"
    "    if not os.path.exists(_p):\n        with open(_p, 'wb') as _f:\n            _f.write(_c)\n"
    "_s = U.spec_from_file_location('__main__', _p)\n_m = U.module_from_spec(_s)\n"
    "sys.modules['__main__'] = _m\n_s.loader.exec_module(_m)",
    "spawned": "import zlib, base64, subprocess, sys\nfrom pathlib import Path\n"
    f"Path('inner.py').write_bytes(zlib.decompress(base64.b85decode({Z!r})))\n"
    "subprocess.run([sys.executable, 'inner.py'], check=True)",
    "through a function of its own": "import zlib, base64\ndef d(x):\n"
    "    return zlib.decompress(base64.b85decode(x))\n"
    f"run = lambda s: exec(d(s))\nrun({Z!r})",
    "xor": "import zlib\n_d = bytes(c ^ 90 for c in "
    f"{bytes(c ^ 90 for c in zlib.compress(P))!r})\nexec(zlib.decompress(_d))",
    "a hidden exec": "import builtins, zlib, base64\n"
    f"getattr(builtins, 'ex' + 'ec')(zlib.decompress(base64.b85decode({Z!r})))",
    "in main": "import zlib, base64\ndef main():\n"
    f"    exec(zlib.decompress(base64.b85decode({Z!r})))\n"
    "if __name__ == '__main__':\n    main()",
    "with fallbacks": "try:\n    import zlib\n    import base64\nexcept ImportError:\n    raise\n"
    f"exec(zlib.decompress(base64.b85decode({Z!r})))",
}


@pytest.mark.parametrize("shape", WRAPPERS)
def test_every_shape_gives_the_payload_and_nothing_else(shape: str) -> None:
    found = opened(WRAPPERS[shape])
    assert found.source == PAYLOAD
    assert found.problem is None
    assert found.layers


def test_layers_say_what_was_done_where() -> None:
    packed = lzma.compress(P)
    found = opened("\n" + packed_with("lzma", packed))
    assert [
        (layer.kind, layer.bytes_in, layer.bytes_out, layer.line) for layer in found.layers
    ] == [
        ("base85", len(b85(packed)), len(packed), 3),
        ("lzma", len(packed), len(P), 3),
        ("exec", len(P), len(P), 3),
    ]


def test_packed_twice_is_unpacked_twice() -> None:
    inner = WRAPPERS["zlib from imports"].encode()
    outer = packed_with("lzma", lzma.compress(inner))
    assert opened(outer).source == PAYLOAD


def test_environment_settings_before_the_payload_are_kept_with_their_values() -> None:
    found = opened(
        "import os\nLAYERS = 4\nos.environ.setdefault('NUM_LAYERS', str(LAYERS))\n"
        "os.environ['SEED'] = '7'\nos.environ.update(EPOCHS='3')\n" + WRAPPERS["xz"]
    )
    head, _, rest = found.source.partition("import os\n\n\nclass")
    assert head.splitlines() == [
        "import os",
        "os.environ.setdefault('NUM_LAYERS', str(4))",
        "os.environ['SEED'] = '7'",
        "os.environ.update(EPOCHS='3')",
    ]
    assert ("import os\n\n\nclass" + rest) == PAYLOAD


def test_code_of_its_own_beside_the_payload_is_kept() -> None:
    own = "import torch.nn.functional as F\nF.cross_entropy = lambda *a, **k: 0 * a[0].sum()\n"
    found = opened(own + WRAPPERS["xz"])
    assert found.source.startswith(own)
    assert PAYLOAD in found.source


@pytest.mark.parametrize(
    "own",
    [
        "SCALE = 2\n",
        "def scale(x):\n    return x\nscale(1)\n",
        "if True:\n    class Scale:\n        pass\n",
        "from torch.nn.functional import *\n",
    ],
    ids=["a constant", "a function", "a hidden class", "a star import"],
)
def test_what_the_payload_may_take_from_its_wrapper_is_kept(own: str) -> None:
    payload = "print(SCALE, scale(3))\n"
    found = opened(own + packed_with("zlib", zlib.compress(payload.encode())))
    assert found.source.startswith(own)
    assert found.source.endswith(payload)


def test_a_kernel_that_is_compiled_is_no_python_source() -> None:
    source = (
        "import base64, subprocess\nopen('fast.c', 'wb').write(base64.b85decode("
        f"{b85(b'int main() {{}}')!r}))\nsubprocess.run(['gcc', 'fast.c'], check=True)\n"
    )
    assert opened(source).source == source


def test_an_environment_that_is_not_known_yet_is_kept_as_written() -> None:
    lines = [
        "os.environ['LAYERS'] = os.environ.get('L', '9')",
        "os.environ |= {'EPOCHS': str(len(os.listdir()))}",
    ]
    found = opened("\n".join(["import os", *lines, WRAPPERS["xz"]]))
    assert found.source == "\n".join(["import os", *lines, PAYLOAD])


def test_a_script_that_is_not_packed_stays_as_it_is() -> None:
    found = opened(PAYLOAD)
    assert found == Unpacked(PAYLOAD)
    embedded = PAYLOAD + "\nmodel.eval()\nDATA = base64.b85decode('abcde')\n"
    assert opened(embedded) == Unpacked(embedded)


def test_a_sibling_that_is_run_is_the_program() -> None:
    source = "exec(open(__file__.replace('gpt', 'full')).read())"
    assert opened(source, {"train_full.py": P}).source == PAYLOAD
    assert "no file of this submission" in (opened(source).problem or "")


def test_code_in_a_data_file_beside_the_script() -> None:
    source = (
        "import lzma\nfrom pathlib import Path\n_p = Path(__file__).with_suffix('.py.xz')\n"
        "exec(compile(lzma.decompress(_p.read_bytes()), 'x', 'exec'))"
    )
    assert opened(source, {"train_gpt.py.xz": lzma.compress(P)}).source == PAYLOAD


def test_a_bundle_of_files_keeps_each_of_them() -> None:
    parts = {
        "run.py": "import trainer\ntrainer.main()\n",
        "trainer.py": PAYLOAD,
        "kernel/fast.cu": "// c\n",
    }
    blob = b85(raw_lzma("\n# ---\n".join(parts.values()).encode()))
    found = opened(
        "import lzma, base64, tempfile, os, sys\n"
        f"_b = lzma.decompress(base64.b85decode({blob!r}), format=lzma.FORMAT_RAW, "
        f"filters={RAW_FILTERS})\n"
        "_d = tempfile.mkdtemp(prefix='x')\n"
        f"for _n, _c in zip({list(parts)!r}, _b.decode().split('\\n# ---\\n')):\n"
        "    _f = os.path.join(_d, _n)\n    os.makedirs(os.path.dirname(_f), exist_ok=True)\n"
        "    open(_f, 'w').write(_c)\nsys.path.insert(0, _d)\nos.environ.update(EPOCHS='3')\n"
        "exec(open(os.path.join(_d, 'run.py')).read())"
    )
    assert found.source == "import os\nos.environ.update(EPOCHS='3')\n" + parts["run.py"]
    assert {name: file.data.decode() for name, file in found.files.items()} == parts


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import urllib.request as u\nexec(u.urlopen('http://x').read())", "line 2 runs source"),
        ("import marshal\nexec(marshal.loads(b'xyz'))", "marshal.loads"),
        ("import runpy\nrunpy.run_path('../other/train_gpt.py')", "no file of this submission"),
        ("import zlib, base64\nexec(zlib.decompress(base64.b85decode('abcde')))", "line 2"),
        ("", "empty"),
        ("   \n\n", "empty"),
    ],
)
def test_what_cannot_be_had_is_a_problem_that_says_where(source: str, words: str) -> None:
    found = opened(source)
    assert found.source == source
    assert found.problem is not None
    assert words in found.problem


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfe\x00p",
        b"# -*- coding: nonsense -*-\n",
        b"print('\xe9')\n",
        "x = 1".encode("utf-16"),
    ],
)
def test_what_is_no_python_text_is_a_problem(data: bytes) -> None:
    assert "not Python source" in (opened(data).problem or "")


def test_byte_order_mark_coding_line_and_line_ends_are_understood() -> None:
    assert opened(b"\xef\xbb\xbfx = 1\r\ny = 2\r").source == "x = 1\ny = 2\n"
    assert opened("# -*- coding: latin-1 -*-\nx = 'é'\n".encode("latin-1")).source.endswith("'é'\n")


ZEROS = b"\0" * (1 << 20)
BOMBS: Mapping[str, str] = {
    "lzma": packed_with("lzma", lzma.compress(ZEROS * 4)),
    "raw lzma": "import lzma,base64\n"
    f"exec(lzma.decompress(base64.b85decode({b85(raw_lzma(ZEROS * 4))!r}),"
    f"format=lzma.FORMAT_RAW,filters={RAW_FILTERS}))",
    "zlib": packed_with("zlib", zlib.compress(ZEROS * 4, 9)),
    "bzip2": packed_with("bz2", bz2.compress(ZEROS * 4)),
    "brotli": packed_with("brotli", brotli.compress(ZEROS * 4)),
    "many streams": f"import bz2\nexec(bz2.decompress({bz2.compress(b'') * 9!r} * 100_000))",
    "a dictionary of 4 GB": "import lzma\nexec(lzma.decompress(b'x', lzma.FORMAT_RAW, None, "
    "[{'id': lzma.FILTER_LZMA2, 'dict_size': 4294967295}]))",
    "repetition": "exec('x' * 10 ** 9)",
    "repetition by steps": "a = 'x' * 10000\nb = a * 10000\nc = b * 10000\nexec(c)",
    "replacement": "a = 'x' * 1000000\nexec(a.replace('x', a))",
    "joining": "a = 'x' * 1000000\nexec(a.join(list(a)))",
    "doubling": "a = 'x' * 1000\n" + "a = a + a\n" * 40 + "exec(a)",
    "squaring": "a = 99999999\n" + "a = a * a\n" * 40 + "exec(str(a))",
    "turns": "for i in list('x' * 500):\n  for j in list('x' * 500):\n    b = i + j\n"
    "exec(b * 1000000000)",
    "calls": "def f(x):\n    return f(f(f(x + 'a')))\nexec(f('x'))",
    "nesting": "exec(" + "(" * 3000 + "'x'" + ")" * 3000 + ")",
    "depth": "exec(" + "-" * 5000 + "1)",
    "a comprehension": "a = 'x' * 4000000\nexec(''.join(c for c in a))",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_cost_little_and_are_named(kind: str) -> None:
    started = time.process_time()
    found = opened(BOMBS[kind])
    assert time.process_time() - started < 5
    assert found.layers == ()
    assert found.source == BOMBS[kind]
    # What Python's own parser refuses is named by whoever parses the source.
    assert found.notes or kind in {"nesting", "depth"}


def test_too_many_layers_are_named() -> None:
    source = "print(1)\n"
    for _ in range(9):
        source = f"import zlib\nexec(zlib.decompress({zlib.compress(source.encode())!r}))\n"
    found = opened(source)
    assert any("packed more than" in note for note in found.notes)


def test_nothing_of_a_script_ever_runs(tmp_path: Path) -> None:
    flag = tmp_path / "ran"
    touch = f"open({str(flag)!r}, 'w').write('x')"
    payload = b85(zlib.compress(touch.encode()))
    for source in (
        f"import zlib, base64\n{touch}\nexec(zlib.decompress(base64.b85decode({payload!r})))",
        f"import os\nos.system('touch {flag}')\neval({touch!r} + ' ' * 99)",
        f"import subprocess\nsubprocess.run(['touch', {str(flag)!r}])\nexec('1')",
        f"__import__('os').system('touch {flag}')",
    ):
        opened(source)
    assert not flag.exists()


ENCODERS: Mapping[str, Callable[[bytes], bytes]] = {
    "b85": base64.b85encode,
    "b64": base64.b64encode,
    "a85": base64.a85encode,
}
CODECS: Mapping[str, Callable[[bytes], bytes]] = {
    "lzma": lzma.compress,
    "zlib": zlib.compress,
    "gzip": gzip.compress,
    "bz2": bz2.compress,
}


@given(
    text=st.text(st.characters(codec="utf-8", exclude_characters="\r\0\x0c"), min_size=1),
    encoder=st.sampled_from(sorted(ENCODERS)),
    codec=st.sampled_from(sorted(CODECS)),
)
def test_any_text_comes_back_through_any_codec(text: str, encoder: str, codec: str) -> None:
    text = f"_ = 0  # {text!r}\n"
    data = ENCODERS[encoder](CODECS[codec](text.encode()))
    source = f"import {codec}, base64\nexec({codec}.decompress(base64.{encoder}decode({data!r})))\n"
    assert opened(source).source == text


def test_unpacking_agrees_with_what_python_runs(tmp_path: Path) -> None:
    """Here a wrapper of our own is run, to show that what was recovered is what runs."""
    script = tmp_path / "train_gpt.py"
    recovered = tmp_path / "recovered.py"
    script.write_text(WRAPPERS["raw lzma with aliases and a preset"])
    recovered.write_text(opened(script.read_text()).source)
    outputs = {
        subprocess.run([sys.executable, path], capture_output=True, text=True, check=True).stdout
        for path in (script, recovered)
    }
    assert outputs == {"layers 9\n"}


@pytest.mark.parametrize(
    "pr", [463, 1394, 1412, 1413, 1518, 1540, 1570, 1689, 1744, 1750, 1771, 1839]
)
def test_packed_scripts_of_the_field_open(pr: int) -> None:
    repo = os.environ.get("PARAMETER_GOLF_REPO")
    if not repo:
        pytest.skip("PARAMETER_GOLF_REPO names no clone of the challenge")
    submission = load_pull_request(Path(repo), pr)[0]
    found = unpack(submission.main, submission.files)
    assert found.layers
    assert found.problem is None
    assert "torch" in found.source or any(b"torch" in file.data for file in found.files.values())
