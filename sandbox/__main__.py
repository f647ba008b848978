"""`python -m sandbox up` leaves the sandbox running, `python -m sandbox demo` shows the main job on it."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from sandbox.azurite import AzuriteFailed
from sandbox.demo import demo
from sandbox.functions import FunctionsFailed
from sandbox.parent import when_stdin_ends
from sandbox.up import up


def main() -> int:
    arguments = _parser().parse_args()
    if arguments.command == "up":
        work: Coroutine[Any, Any, int | None] = up(as_json=arguments.json, lease=arguments.lease, log=arguments.log)
    else:
        work = demo()
    try:
        return asyncio.run(_until_told(work, end_with_stdin=arguments.end_with_stdin)) or 0
    except (AzuriteFailed, FunctionsFailed) as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m sandbox", description="Entra ID, Graph, Key Vault, storage and the functions, on this machine."
    )
    parser.add_argument("--end-with-stdin", action="store_true", help="end when standard input does, so with the parent")
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("up", help="run until SIGTERM or Ctrl-C")
    running.add_argument("--json", action="store_true", help="print one JSON line when ready, for programs")
    running.add_argument("--lease", type=float, metavar="SECONDS", help="of a queue message, instead of the 600 that Azure has")
    running.add_argument("--log", type=lambda name: Path(name).resolve(), metavar="FILE", help="where the functions' log goes")
    commands.add_parser("demo", help="a certificate, a token, a mail, a batch, a reply, a renewal")
    return parser


async def _until_told(work: Coroutine[Any, Any, int | None], *, end_with_stdin: bool) -> int | None:
    """Told to end, it puts everything away and is well; told again while it does so, it just goes."""
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    for ending in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(ending, task.cancel)
    if end_with_stdin:
        when_stdin_ends(task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return None


if __name__ == "__main__":
    sys.exit(main())
