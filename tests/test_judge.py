# ruff: noqa: E501  (tables of cases)
"""The judge against bytes that no honest process sends."""

from __future__ import annotations

import random
import signal

import pytest

from azr.executor import protocol
from azr.executor.judge import BrokenProtocol, FrameReader, Outcome, Report, as_gold, is_gold, outcome_of_end
from azr.executor.requests import Status
from azr.executor.values import Malformed, decode, encode

TOKEN = b"12345678"
SAMPLES = [
    None, True, 5, -(2**200), 1.5, float("inf"), 2j, "héllo", b"\0\xff", [1, [2, (3,)]], {"a": {1, 2}, "b": frozenset("xy")},
    {(1, 2): None, 3: [True]}, "", [], {}, list(range(50)),
]  # fmt: skip


def frame(tag: bytes, payload: bytes = b"", token: bytes = TOKEN) -> bytes:
    return protocol.FRAME.pack(token, tag, len(payload)) + payload


def mutated(data: bytes, generator: random.Random) -> bytes:
    """The bytes with one to three changes: a byte, a cut, a repetition, an insertion."""
    changed = bytearray(data)
    for _ in range(generator.randint(1, 3)):
        position = generator.randrange(len(changed) + 1)
        kind = generator.randrange(4)
        if kind == 0 and position < len(changed):
            changed[position] = generator.choice((0, 1, 255, changed[position] ^ 1, generator.randrange(256)))
        elif kind == 1:
            del changed[position : position + generator.randint(1, 4)]
        elif kind == 2:
            changed[position:position] = changed[position : position + generator.randint(1, 9)]
        else:
            changed[position:position] = generator.randbytes(generator.randint(1, 5))
    return bytes(changed)


def test_no_value_is_accepted_but_its_canonical_bytes() -> None:
    """120,000 random and mutated payloads: each is refused, or is exactly what `encode` makes of what it means."""
    generator = random.Random(7)
    encoded = [encode(value) for value in SAMPLES]
    accepted = 0
    for _ in range(120_000):
        data = mutated(generator.choice(encoded), generator) if generator.random() < 0.8 else generator.randbytes(12)
        try:
            value = decode(data)
        except Malformed:
            continue
        accepted += 1
        assert encode(value) == data
    assert accepted > 1000  # a changed digit is another value: the fuzz reaches beyond the first byte


def test_no_stream_breaks_the_reader() -> None:
    """60,000 random and mutated streams, cut anywhere: each is refused, or gives at most as many outcomes as inputs."""
    generator = random.Random(8)
    tags = [b"V", b"E", b"N", b"L", b"M", b"F", b"S", b"A", b"?"]
    read = 0
    for _ in range(60_000):
        stream = b"".join(frame(generator.choice(tags), generator.choice((b"", b"N", b"ValueError", b"\0", b"i\0\0\0\1\5")))
                          for _ in range(generator.randint(0, 3)))  # fmt: skip
        if generator.random() < 0.6:
            stream = mutated(stream, generator)
        reader = FrameReader(2, TOKEN)
        cut = generator.randint(0, len(stream))
        try:
            reader.feed(stream[:cut])
            reader.feed(stream[cut:])
            reader.finish()
        except BrokenProtocol:
            continue
        read += 1
        assert len(reader.outcomes) <= 2
        for outcome in reader.outcomes:
            as_gold(outcome)
            is_gold(outcome, encode(5))
    assert read > 1000


def test_frames_are_read_across_any_cut() -> None:
    stream = frame(protocol.VALUE, encode([1])) + frame(protocol.EXCEPTION, b"ValueError") + frame(protocol.VALUE, b"N")
    for cut in range(len(stream)):
        reader = FrameReader(3, TOKEN)
        reader.feed(stream[:cut])
        reader.feed(stream[cut:])
        reader.finish()
        assert [outcome.status for outcome in reader.outcomes] == [Status.OK, Status.EXCEPTION, Status.OK]


@pytest.mark.parametrize(
    "stream",
    [
        frame(protocol.VALUE, b"N") * 3,
        frame(protocol.VALUE, b"N", token=b"87654321"),
        frame(b"?"),
        frame(protocol.EXCEPTION, b"no such\nname"),
        frame(protocol.EXCEPTION, b"x" * 65),
        protocol.FRAME.pack(TOKEN, protocol.VALUE, 2**31),
        frame(protocol.SYNTAX_ERROR, b"SyntaxError") + frame(protocol.VALUE, b"N"),
        frame(protocol.VALUE, b"N")[:-1],
        b"\0" * 13,
    ],
)
def test_a_broken_protocol_is_noticed(stream: bytes) -> None:
    reader = FrameReader(2, TOKEN)
    with pytest.raises(BrokenProtocol):
        reader.feed(stream)
        reader.finish()


@pytest.mark.parametrize(
    ("report", "status"),
    [
        (Report(9, protocol.CAUSE_CPU, 1.0, 0), Status.TIMEOUT),
        (Report(9, protocol.CAUSE_WALL, 0.1, 0), Status.TIMEOUT),
        (Report(9, protocol.CAUSE_MEMORY, 0.1, 0), Status.OUT_OF_MEMORY),
        (Report(9, protocol.CAUSE_NONE, 0.1, 0), Status.OUT_OF_MEMORY),
        (Report(int(signal.SIGPROF), protocol.CAUSE_NONE, 0.1, 0), Status.TIMEOUT),
        (Report(int(signal.SIGSYS), protocol.CAUSE_NONE, 0.1, 0), Status.FORBIDDEN),
        (Report(int(signal.SIGSEGV), protocol.CAUSE_NONE, 0.1, 0), Status.CRASHED),
        (Report(0, protocol.CAUSE_NONE, 0.1, 0), Status.CRASHED),
        (Report(protocol.EXIT_OUT_OF_MEMORY << 8, protocol.CAUSE_NONE, 0.1, 0), Status.OUT_OF_MEMORY),
        (Report(1 << 8, protocol.CAUSE_NONE, 0.1, 0), Status.CRASHED),
    ],
)
def test_how_a_process_ended_comes_from_the_kernel(report: Report, status: Status) -> None:
    assert outcome_of_end(report).status is status


def test_bytes_that_are_no_value_are_never_gold() -> None:
    for data in (b"", b"?", b"i\0\0\0\2\0\5", encode(5) + b"N"):
        outcome, correct = is_gold(Outcome(Status.OK, data=data), encode(5))
        assert not correct
        assert outcome.status is Status.CRASHED
    assert is_gold(Outcome(Status.TIMEOUT, data=encode(5)), encode(5)) == (
        Outcome(Status.TIMEOUT, data=encode(5)),
        False,
    )
    assert as_gold(Outcome(Status.OK, data=encode([float("nan")])))[0].status is Status.NOT_A_VALUE
