"""What a person sees while a run goes on: a line that is redrawn on a terminal, plain lines now and then elsewhere."""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TextIO

LINE_EVERY_S = 3.0
"""Plain lines about finished sessions come no closer than this."""

SILENCE_S = 30.0
"""Plain lines come no farther apart than this."""

_BAR_WIDTH = 24


@dataclass(slots=True)
class Tally:
    """How far a run is; `skipped` sessions were finished by an earlier one."""

    total: int = 0
    skipped: int = 0
    finished: int = 0
    failed: int = 0
    running: dict[str, int] = field(default_factory=dict[str, int])
    exchanges: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = 0.0
    flags: Counter[str] = field(default_factory=Counter[str])
    started_at: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Seconds since the first session was begun."""
        return time.monotonic() - self.started_at

    @property
    def left(self) -> int:
        """Sessions that have not ended."""
        return self.total - self.skipped - self.finished - self.failed

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the rest will take at the rate so far, or None before the first session has ended."""
        ended = self.finished + self.failed
        return self.seconds * self.left / ended if ended else None


class Display:
    """Shows a tally on a stream."""

    def __init__(self, stream: TextIO) -> None:
        """Show it on this stream, redrawn in place if the stream is a terminal."""
        self.tally: Tally | None = None
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._shown_at = 0.0
        self._has_bar = False

    def update(self, tally: Tally, *, has_ended: bool = False) -> None:
        """Show how far the run is, if it is time to."""
        self.tally = tally
        silent_s = time.monotonic() - self._shown_at
        if self._is_terminal:
            self._draw(tally)
        elif silent_s >= (LINE_EVERY_S if has_ended else SILENCE_S):
            self._shown_at = time.monotonic()
            self._write(f"magnet-batch: {_describe(tally)}\n")

    def say(self, text: str) -> None:
        """Show a line that stays."""
        self.clear()
        self._write(f"magnet-batch: {text}\n")

    def clear(self) -> None:
        """Take the redrawn line away."""
        if self._has_bar:
            self._write("\r\x1b[K")
            self._has_bar = False

    def _draw(self, tally: Tally) -> None:
        done = tally.total - tally.left
        filled = _BAR_WIDTH * done // max(1, tally.total)
        bar = "█" * filled + "░" * (_BAR_WIDTH - filled)
        self._write(f"\r{bar} {_describe(tally)}\x1b[K")
        self._has_bar = True

    def _write(self, text: str) -> None:
        encoding = self._stream.encoding or "ascii"
        self._stream.write(text.encode(encoding, "replace").decode(encoding))
        self._stream.flush()


def _describe(tally: Tally) -> str:
    parts = [show_finished(tally)]
    if tally.failed:
        parts.append(f"{tally.failed} failed")
    if tally.running:
        parts.append(f"{len(tally.running)} running")
    exchanges = tally.exchanges + sum(tally.running.values())
    parts += [show_count(exchanges, "exchange"), show_count(tally.calls, "call"), show_seconds(tally.seconds)]
    if tally.left and (seconds := tally.seconds_left) is not None:
        parts.append(f"about {show_seconds(seconds)} left")
    return ", ".join(parts)


def show_finished(tally: Tally) -> str:
    """Return how many sessions are finished: `3 of 26 sessions`."""
    return f"{tally.skipped + tally.finished} of {show_count(tally.total, 'session')}"


def show_count(count: int, noun: str) -> str:
    """Return a number of things: `1 exchange`, `2,000 exchanges`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def show_seconds(seconds: float) -> str:
    """Return a length of time as a person reads it: `8 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
