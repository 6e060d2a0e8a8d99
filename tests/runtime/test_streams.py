"""Text on streams that cannot show every character; data as UTF-8."""

import io
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from d2cli.errors import OutputError
from d2cli.runtime import streams

ENCODINGS = ["ascii", "latin-1", "cp1252", "cp437", "shift_jis", "utf-8", "utf-16"]


def stream(encoding, errors="strict"):
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors, newline="")


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("5,000 × 128", "5,000 x 128"),
        ("σ = 3 … 4, γ_r ≥ 2, β → 0", "sigma = 3 ... 4, gamma_r >= 2, beta -> 0"),
        ("⌊m/2⌋ − ⌈N⌉", "floor(m/2) - ceil(N)"),
        ("10⁻¹² of s² and |x|₂", "10^-12 of s^2 and |x|_2"),
        ("Größe", r"Gr\xf6\xdfe"),
        ("\U0001f600\udc80", r"\U0001f600\udc80"),
    ],
)
def test_plain_forms(text, plain):
    assert streams.shown(text, stream("ascii")) == plain


@given(st.text(), st.sampled_from(ENCODINGS))
@example("¥", "shift_jis")
def test_every_text_can_be_printed_and_characters_that_can_be_shown_stay(text, encoding):
    out = stream(encoding)
    found = streams.shown(text, out)
    try:
        # As bytes: Shift JIS has one code for ¥ and the backslash.
        assert found.encode(encoding) == text.encode(encoding)
    except UnicodeEncodeError:
        assert found.encode(encoding).decode(encoding) != text


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("errors", ["strict", "replace"])
def test_streams_are_forgiving_inside_the_block_only(monkeypatch, encoding, errors):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, stream(encoding, errors))
    with streams.forgiving():
        print("×…\u4e00", end="")
        print("σ", file=sys.stderr, end="")
        with streams.forgiving():
            print("é", end="", flush=True)
        print("\udc80", end="")
    assert (sys.stdout.errors, sys.stderr.errors) == (errors, errors)
    assert sys.stdout.encoding == encoding
    sys.stdout.flush()
    shown = sys.stdout.buffer.getvalue().decode(encoding)
    assert shown == streams.shown("×…\u4e00é\udc80", sys.stdout)
    if encoding == "ascii":
        assert shown == r"x...\u4e00\xe9\udc80"


def test_streams_in_memory_and_closed_streams(monkeypatch):
    memory = io.StringIO()
    monkeypatch.setattr(sys, "stdout", memory)
    monkeypatch.setattr(sys, "stderr", None)
    with streams.forgiving(), streams.written(memory, data=True) as out:
        print("é", file=out)
    assert memory.getvalue() == "é\n"
    with pytest.raises(OutputError, match="standard output is closed"), streams.written(None):
        pass


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "utf-8"])
def test_data_is_utf_8_and_text_around_it_is_not(encoding):
    out = stream(encoding)
    print("a", file=out)
    with streams.written(out, data=True) as data:
        data.write("é×\n")
    print("b", file=out, flush=True)
    assert out.buffer.getvalue() == "a\né×\nb\n".encode()
    assert out.encoding == encoding
