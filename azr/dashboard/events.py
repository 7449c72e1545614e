"""Server-sent events with resume: a bounded log that any thread appends to and every viewer follows at its own pace.

Appending costs a lock and a list append, whoever reads. A viewer that is slow, or away, finds what it missed by the
last id it saw; if the log has forgotten that, or comes from an earlier process, it gets `reset` and reads the state
anew.
Progress is worth only its newest value, so a progress event replaces the one before it.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

POLL_SECONDS = 0.8  # how late an event may be; with many viewers, looking more often costs the training time
BEAT_SECONDS = 1.0  # a sign of life when nothing happens
KEPT = 500
REPLACED = ("progress",)


@dataclass(frozen=True, slots=True)
class Event:
    number: int
    kind: str
    data: str  # JSON


def to_json(value: Any) -> str:
    """ASCII JSON: lone surrogates and control characters in model output survive as escapes."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


class EventLog:
    def __init__(self) -> None:
        self.epoch = secrets.token_hex(4)  # another process, another numbering
        self.newest = 0
        self._events: deque[Event] = deque(maxlen=KEPT)
        self._lock = threading.Lock()
        self._closed = False

    def add(self, kind: str, data: Any) -> None:
        text = to_json(data)
        with self._lock:
            if kind in REPLACED and self._events and self._events[-1].kind == kind:
                self._events.pop()
            self.newest += 1
            self._events.append(Event(self.newest, kind, text))

    def close(self) -> None:
        """End every stream: the server is shutting down."""
        self._closed = True

    def after(self, number: int) -> list[Event]:
        with self._lock:
            return [event for event in self._events if event.number > number]

    def position(self, last_id: str | None) -> int | None:
        """The number behind an id of this log; None if what came after it is no longer known."""
        epoch, _, digits = (last_id or "").partition("-")
        if epoch != self.epoch or not digits.isascii() or not digits.isdigit():
            return None
        number = int(digits)
        with self._lock:
            # Replaced events leave gaps: only an id older than the whole log is lost.
            oldest = self._events[0].number if len(self._events) == KEPT else 0
        return number if oldest - 1 <= number <= self.newest else None

    async def follow(self, last_id: str | None) -> AsyncIterator[str]:
        """The text of an event stream, until the log is closed."""
        position = self.position(last_id)
        yield "retry: 1000\n\n"
        if position is None:
            position = self.newest
            yield f"id: {self.epoch}-{position}\nevent: reset\ndata: {{}}\n\n"
        quiet = 0.0
        while not self._closed:
            events = self.after(position)
            if events:
                position, quiet = events[-1].number, 0.0
                yield "".join(f"id: {self.epoch}-{e.number}\nevent: {e.kind}\ndata: {e.data}\n\n" for e in events)
            elif quiet >= BEAT_SECONDS:
                quiet = 0.0
                yield "event: beat\ndata: {}\n\n"
            await asyncio.sleep(POLL_SECONDS)
            quiet += POLL_SECONDS
