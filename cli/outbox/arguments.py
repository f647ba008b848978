"""The arguments of `mailroom outbox`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

from cli.check import settings_wrong
from mailroom.errors import BadSettings, MailroomError
from mailroom.model.decisions import DECISIONS

FAILED, INTERRUPTED = 1, 130
ID = "a mail's id, or of a poisoned message its id or what it begins with"


def add(commands: Any) -> None:
    """To the commands of `mailroom`."""
    group = commands.add_parser(
        "outbox",
        help="what waits for a person: mails that are held or in doubt, and poisoned messages",
        description="Looks into the outbox's storage itself (AzureWebJobsStorage…), and changes what a person decides. Exit status 0: done;"
        " 1: not, and one line says why; 2: wrong arguments.",
    )
    ways = group.add_subparsers(dest="way", required=True, metavar="COMMAND")
    listing = ways.add_parser("list", help="mails that are held or in doubt, by account, and poisoned messages with their reasons")
    listing.add_argument("--account", metavar="ACCOUNT", help="of this account alone")
    listing.add_argument("--all", action="store_true", dest="every", help="also each mail that is pending, or was refused or cancelled")
    _about(ways.add_parser("show", help="all that is known of one mail or poisoned message"))
    requeue = ways.add_parser("requeue", help="once more: a held or refused mail, asked for before it goes again; a poisoned message")
    _about(requeue, many=True)
    requeue.add_argument(
        "--with", dest="instead", metavar="FILE", type=Path, help="the message's JSON, corrected, in place of what was there"
    )
    drop = ways.add_parser("drop", help="never: a mail is cancelled, a poisoned message deleted")
    _about(drop, many=True)
    drop.add_argument("--yes", action="store_true", required=True, help="needed, since nothing brings it back")
    resolve = ways.add_parser("resolve", help="say what became of a mail that is held or in doubt, once you have looked into Sent Items")
    _about(resolve)
    resolve.add_argument("decision", choices=DECISIONS, help="it was sent; send it (again); or never")


def run(given: argparse.Namespace) -> int:
    from cli.outbox import command

    if given.way == "requeue" and given.instead is not None and len(given.id) > 1:
        print("mailroom: --with FILE is for one message; see mailroom outbox requeue --help", file=sys.stderr)
        return 2
    try:
        if given.way == "requeue" and given.instead is not None:
            given.instead = given.instead.read_bytes()
        return asyncio.run(command.run(given))
    except BadSettings as error:
        print(settings_wrong(error))
    except MailroomError as error:
        print(f"mailroom: {error}", file=sys.stderr)
    except OSError as error:
        print(f"mailroom: {error.filename}: {error.strerror}", file=sys.stderr)
    except KeyboardInterrupt:
        return INTERRUPTED
    return FAILED


def _about(parser: argparse.ArgumentParser, *, many: bool = False) -> None:
    parser.add_argument("id", metavar="ID", nargs="+" if many else None, help=ID)
    parser.add_argument("--account", metavar="ACCOUNT", help="the mail is of this account: quicker, and told apart")
