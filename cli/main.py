"""`mailroom`: what a person asks of an account from a terminal. Never imported by a function."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import webbrowser
from collections.abc import Sequence
from typing import NoReturn

from cli import check, login
from cli.batch import arguments as batch
from cli.certificate import arguments, command
from cli.outbox import arguments as outbox
from mailroom import wiring
from mailroom.errors import BadSettings

USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that knows no check mark still gets the words
    given = _parser().parse_args(arguments)
    if given.command == "certificate":
        return command.run(given)
    if given.command == "batch":
        return batch.run(given)
    if given.command == "outbox":
        return outbox.run(given)
    try:
        accounts = wiring.settings().accounts
    except BadSettings as error:
        print(check.settings_wrong(error))
        return 1
    if given.account not in accounts:
        known = ", ".join(sorted(accounts)) or "none"
        print(f"mailroom: there is no account {given.account!r}. Known accounts: {known}.", file=sys.stderr)
        return USAGE
    if given.command == "login":
        return asyncio.run(_login(given.account, given.way, opens=given.opens))
    return asyncio.run(_check(given.account, given.send_to))


async def _check(name: str, send_to: str | None) -> int:
    account = wiring.settings().accounts[name]
    print(f"{name}: {account.address} on {account.provider}")
    failed, skipped = 0, 0
    async with wiring.client():
        async for line in check.run(account, wiring, send_to=send_to):
            print(line, flush=True)
            failed += line.ok is False
            skipped += line.ok is None
    print(check.verdict(failed, skipped))
    return 1 if failed else 0


async def _login(name: str, way: login.Way | None, *, opens: bool) -> int:
    settings = wiring.settings()
    async with wiring.client():
        try:
            store = wiring.store() if settings.storage else None
            steps = login.Login(wiring, wiring.vault(), store, lambda text: print(text, flush=True), webbrowser.open if opens else None)
        except BadSettings as error:
            print(check.settings_wrong(error))
            return 1
        good = False
        async for line in steps.run(settings.accounts[name], way):
            print(line, flush=True)
            good = line.ok is True
    return 0 if good else 1


def _parser() -> argparse.ArgumentParser:
    parser = _OneLine(prog="mailroom", description="Mail by OAuth 2.0 from Azure Functions: what an account can do, seen from here.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    checks = commands.add_parser(
        "check",
        help="test an account step by step: settings, vault, token, permissions, a mail, the inbox",
        description="Tests an account step by step. Each line that fails says what to do. Exit status 0: nothing failed; 1: something did.",
    )
    checks.add_argument("account", metavar="ACCOUNT", help="its name in accounts.toml")
    checks.add_argument(
        "--send-to",
        metavar="ADDRESS",
        type=_address,
        help="send a test mail there, to Graph also one in MIME, and find them again; nothing is sent without it",
    )
    logins = commands.add_parser(
        "login",
        help='sign in for an account whose grant is "refresh_token"; the refresh token goes into the vault',
        description="Signs a person in for an account; the refresh token goes into the vault. Exit status 0: it is there; 1: it is not.",
    )
    logins.add_argument("account", metavar="ACCOUNT", help="its name in accounts.toml")
    ways = logins.add_mutually_exclusive_group()
    ways.add_argument(
        "--device-code", dest="way", action="store_const", const="device", help="with a code, on any device; of a public client"
    )
    ways.add_argument("--browser", dest="way", action="store_const", const="browser", help="in a browser of this machine")
    logins.add_argument("--no-open", dest="opens", action="store_false", help="only print the page's address, and open no browser")
    arguments.add(commands)
    batch.add(commands)
    outbox.add(commands)
    return parser


class _OneLine(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"mailroom: {message}; see {self.prog} --help\n")


def _address(text: str) -> str:
    if not re.fullmatch(r"[^\s@<>\"(),:;\[\\\]]+@[^\s@<>\"(),:;\[\\\]]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an address such as ann@example.com")
    return text


if __name__ == "__main__":
    sys.exit(main())
