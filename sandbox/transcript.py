"""What the demo prints: a line a step, a progress bar where it waits (on a terminal only), and the step that failed."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

Progress = tuple[float, float]  # so much of so much

BAR = 30
WIDTH = 40


class StepFailed(Exception):
    """The message names the step."""


@dataclass(slots=True)
class Transcript:
    out: TextIO = field(default_factory=lambda: sys.stdout)
    started: float = field(default_factory=time.monotonic)
    _steps: int = 0

    def say(self, text: str = "") -> None:
        print(text, file=self.out, flush=True)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        self._steps += 1
        step = Step(self, f"{self._steps:2} {title}")
        step.draw()
        try:
            yield step
        except Exception as error:
            step.clear()
            raise StepFailed(f"FAILED at step {self._steps}, {title}: {error or type(error).__name__}") from error
        step.clear()
        first, *rest = step.lines or [""]
        self.say(f"{step.title:<{WIDTH}} {first}".rstrip())
        for line in rest:
            self.say(f"{'':<{WIDTH}} {line}")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


@dataclass(slots=True)
class Step:
    transcript: Transcript
    title: str
    lines: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        """A line of the transcript, once the step is done."""
        self.lines.append(line)

    async def wait(self, look: Callable[[], Awaitable[Progress]], within: float) -> None:
        """Until `look` says that so much of so much is there; raises TimeoutError with what was there when time was up."""
        end = time.monotonic() + within
        while True:
            done, total = await look()
            self.draw(done / total)
            if done >= total:
                return
            if time.monotonic() > end:
                raise TimeoutError(f"after {within:.0f} s there was {done:g} of {total:g}")
            await asyncio.sleep(0.2)

    def draw(self, part: float | None = None) -> None:
        if self.transcript.out.isatty():
            full = round(BAR * min(1.0, part or 0.0))
            bar = "" if part is None else f"[{'#' * full}{'.' * (BAR - full)}] {min(1.0, part):4.0%}"
            print(f"\r\x1b[2K{self.title:<{WIDTH}} {bar}", end="", file=self.transcript.out, flush=True)

    def clear(self) -> None:
        if self.transcript.out.isatty():
            print("\r\x1b[2K", end="", file=self.transcript.out, flush=True)
