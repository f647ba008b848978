"""How far something has come: a bar on a terminal, which is drawn over itself; else plain lines, not too many of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

BAR = 30
EVERY = 10.0  # seconds from one plain line to the next


@dataclass(slots=True)
class Progress:
    out: TextIO
    now: Callable[[], float] = time.monotonic
    columns: Callable[[], int] = field(default=lambda: 100)
    quiet: bool = False  # where there is no terminal nothing is said
    _last: tuple[float, str] | None = None

    def show(self, done: int, total: int, said: str) -> None:
        part = done / total if total else 1.0
        if self.out.isatty():
            full = int(BAR * part)
            line = f"[{'#' * full}{'.' * (BAR - full)}] {part:4.0%}  {said}"
            self._write(f"\r\x1b[2K{line[: max(self.columns() - 1, BAR)]}")  # a line that wraps could not be drawn over
        elif not self.quiet and self._news(said):
            self._write(f"{done} of {total}: {said}\n")

    def clear(self) -> None:
        if self.out.isatty():
            self._write("\r\x1b[2K")

    def _news(self, said: str) -> bool:
        now = self.now()
        if self._last is not None and (said == self._last[1] or now < self._last[0] + EVERY):
            return False
        self._last = now, said
        return True

    def _write(self, text: str) -> None:
        print(text, end="", file=self.out, flush=True)
