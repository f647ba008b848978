"""Ending with the process that started this one, however that one ended: by standard input, whose other end it holds."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable


def when_stdin_ends(do: Callable[[], object]) -> None:
    """What comes before the end is read away."""
    loop, stdin = asyncio.get_running_loop(), sys.stdin.fileno()

    def read() -> None:
        if not os.read(stdin, 4096):
            loop.remove_reader(stdin)
            do()

    loop.add_reader(stdin, read)
