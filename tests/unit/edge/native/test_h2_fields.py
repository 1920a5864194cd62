"""HPACK without state: what is known at once reads exactly as what is decoded."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauthz.edge.native.h2 import fields, frames
from extauthz.edge.native.h2.fields import FieldDecoder, Head, encode, split
from extauthz.edge.native.h2.frames import ConnectionFault

names = st.sampled_from([b":path", b":method", b"cookie", b"authorization", b"x-custom", b"te", b"a" * 200])
values = st.binary(max_size=300)
sections = st.lists(st.tuples(names, values), max_size=12)
huffman = st.booleans()


def stateless() -> FieldDecoder[Head]:
    decoder = FieldDecoder(lambda head: head, 96 * 1024)
    decoder.agree()
    assert decoder.fields(b"\x20") == []
    return decoder


@given(st.lists(st.tuples(sections, huffman), max_size=6))
def test_sections_read_as_hpack_reads_them(sent: list[tuple[list[tuple[bytes, bytes]], bool]]) -> None:
    """Whatever was known before, for every way to write a field."""
    decoder, encoder = stateless(), hpack.Encoder()
    encoder.header_table_size = 0
    for content, coded in sent:
        section = encoder.encode(content, huffman=coded)
        pieces = split(section)
        assert b"".join(pieces) == section
        assert decoder.fields(section) == content
        assert decoder.fields(section) == content


@given(st.binary(max_size=60))
def test_arbitrary_bytes_read_as_hpack_reads_them(section: bytes) -> None:
    """The same fields, or a refusal by both."""
    try:
        reference = hpack.Decoder(96 * 1024)
        reference.max_allowed_table_size = reference.header_table_size = 0
        expected = [(bytes(name), bytes(value)) for name, value in reference.decode(section, raw=True)]
    except hpack.HPACKError:
        expected = None
    try:
        read = stateless().fields(section)
    except ConnectionFault:
        read = None
    assert read == expected


@given(sections)
def test_what_we_write_is_read(content: list[tuple[bytes, bytes]]) -> None:
    """By a decoder without a table."""
    decoder = hpack.Decoder(1 << 20)
    decoder.max_allowed_table_size = decoder.header_table_size = 0
    assert [tuple(field) for field in decoder.decode(encode(content), raw=True)] == content


def test_what_is_remembered_is_bounded() -> None:
    """A peer whose fields all differ costs no memory."""
    decoder = stateless()
    for number in range(2000):
        head = (b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/%d" % number)
        decoder.request(encode(head))
    assert len(decoder._fields) <= fields.MAX_KNOWN_FIELDS
    assert len(decoder._requests) <= fields.MAX_KNOWN_SECTIONS
    decoder.fields(encode([(b"x", b"y" * 2000)]))
    assert all(len(piece) <= fields.MAX_KNOWN_BYTES for piece in decoder._fields)


def test_a_section_that_grows_too_large() -> None:
    """Known fields count as much as new ones."""
    decoder = FieldDecoder(lambda head: head, 1000)
    decoder.agree()
    decoder.fields(b"\x20")
    with pytest.raises(ConnectionFault) as caught:
        decoder.fields(b"\x82" * 50)
    assert caught.value.code is frames.ErrorCode.ENHANCE_YOUR_CALM


def test_a_table_size_update_after_a_field() -> None:
    """Both when it is new and when it is known."""
    decoder = stateless()
    for _ in range(2):
        with pytest.raises(ConnectionFault):
            decoder.fields(b"\x82\x20")


def test_bytes_that_are_no_text_reach_the_application() -> None:
    """It decides; the connection does not end for them."""
    head = stateless().request(encode([(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/\xff")]))[0]
    assert head.path.encode("utf-8", "surrogateescape") == b"/\xff"


def test_a_section_too_large_for_a_frame_is_continued() -> None:
    """CONTINUATION, with END_HEADERS on the last."""
    sent = list(frames.header_block(1, b"x" * 40000, end=True, limit=16384))
    assert [(part[3], part[4], len(part) - 9) for part in sent] == [(1, 1, 16384), (9, 0, 16384), (9, 4, 7232)]
