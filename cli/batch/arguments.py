"""The arguments of `mailroom batch`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

from cli.check import settings_wrong
from mailroom.errors import BadSettings, MailroomError

FAILED, INTERRUPTED = 1, 130


def add(commands: Any) -> None:
    """To the commands of `mailroom`."""
    parser = commands.add_parser(
        "batch",
        help="send a file of mails, or a template to a list of recipients",
        description="Sends a file of mails through the functions at MAILROOM_URL, as the caller of MAILROOM_CLIENT_ID and"
        " MAILROOM_CLIENT_SECRET, or as the identity that this machine has. The same command again, within 48 hours, is the same"
        " batch: nothing is sent twice. Exit status 0: all accepted, or with --watch all sent; 1: not all; 2: wrong arguments.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "file", metavar="FILE", nargs="?", type=Path, help="mails: NDJSON or a JSON array; with --template recipients; - is stdin"
    )
    what.add_argument("--follow", metavar="ID", help="send nothing, watch the batch of this id")
    what.add_argument("--cancel", metavar="ID", help="nothing more of the batch of this id goes; what is being sent right now does")
    what.add_argument("--retry", metavar="ID", help="that batch's refused mails once more, each once in its life")
    what.add_argument("--failures", metavar="ID", help="every mail of that batch that was refused or is held, one a line; or with --csv")
    parser.add_argument("--account", metavar="ACCOUNT", action="append", default=[], help="sends what names none; repeated, they share it")
    parser.add_argument(
        "--template", metavar="T", type=Path, help="JSON with the fields of a mail as Jinja2 texts; FILE then lists recipients"
    )
    parser.add_argument("--csv", action="store_true", help="the recipients are CSV with a header line; as in a FILE of that name's ending")
    parser.add_argument("--send-at", metavar="TIME", help="2026-12-24T09:00:00+01:00; nothing goes before")
    parser.add_argument("--time-zone", metavar="ZONE", help="of a --send-at without an offset: Europe/Berlin")
    parser.add_argument("--dry-run", action="store_true", help="check all and show three, send nothing")
    parser.add_argument("--partial", action="store_true", help="a bad line refuses that mail, not the whole file")
    parser.add_argument("--watch", action="store_true", help="stay until all are sent, refused or held; Ctrl-C stops the watching alone")
    parser.add_argument("--again", action="store_true", help="a batch of its own, though the same was sent before")


def run(given: argparse.Namespace) -> int:
    from cli.batch import command

    if (given.csv and given.template is None and given.failures is None) or (given.file is None and given.template is not None):
        print("mailroom: --csv and --template go with a FILE of recipients; see mailroom batch --help", file=sys.stderr)
        return 2
    try:
        asked = None if given.file is None else command.asked(given, _read)
        return asyncio.run(command.run(given, asked))
    except BadSettings as error:
        print(settings_wrong(error))
    except MailroomError as error:
        print(f"mailroom: {error}", file=sys.stderr)
    except OSError as error:
        print(f"mailroom: {error.filename}: {error.strerror}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nStopped watching; the batch goes on. `mailroom batch --follow ID` watches it again.", file=sys.stderr)
        return INTERRUPTED
    return FAILED


def _read(path: Path) -> bytes:
    return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
