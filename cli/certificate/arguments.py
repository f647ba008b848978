"""The arguments of `mailroom certificate`. No password is one: the users of a machine see each other's arguments."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from cli.certificate import command

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from cli.certificate.actions import Actions

WIDTH = 79
SIZES = (2048, 3072, 4096)
MOST_MONTHS = 120
TARGET = "its name in the vault; or a file: what has a dot or a slash in it is one"
SAYS = "Where it fails, one line says why, with a code and what to do. Exit status 0: done; 1: not; 2: wrong arguments."


def add(commands: Any) -> None:
    """To the commands of `mailroom`."""
    group = commands.add_parser(
        "certificate",
        help="make, export, show, import and list the certificates that applications sign in with",
        description="Keeps the certificates that applications sign in with, in the vault that MAILROOM_VAULT_URL names.",
    )
    ways = group.add_subparsers(dest="way", required=True, metavar="COMMAND")
    _make(ways)
    _export(ways)
    _show(ways)
    _import(ways)
    _one(ways, "list", command.list_all, "list all certificates of the vault, what ends first comes first", "mailroom certificate list")


def _make(ways: Any) -> None:
    parser = _one(
        ways,
        "make",
        command.make,
        "make a key pair and self-signed certificate, in the vault or on this machine",
        "mailroom certificate make mailroom-graph",
        "mailroom certificate make mailroom-graph --local keys --generate-password",
    )
    parser.add_argument("name", metavar="NAME", type=_name, help="its name; where the vault has one of it this is a new version, like it")
    parser.add_argument("--local", metavar="DIR", type=Path, help="make it here instead: NAME.pfx, NAME.pem and NAME.cer in this folder")
    parser.add_argument("--subject", metavar="DN", type=_subject, help="such as CN=mailroom,O=Contoso (default: CN=NAME)")
    parser.add_argument("--months", type=_months, help="how long it is valid; the vault counts in months (default: 12)")
    parser.add_argument("--key-size", type=int, choices=SIZES, help="bits of the RSA key (default: 2048)")
    _exportable(parser)
    parser.add_argument(
        "--auto-renew",
        action=argparse.BooleanOptionalAction,
        help="let the vault make a new version by itself at 80 %% of its life: only where the profile says register_as",
    )
    ways = _password(parser, "password", "that locks the files of --local")
    ways.add_argument("--generate-password", action="store_true", help="generate it, into NAME.password beside them")


def _export(ways: Any) -> None:
    parser = _one(
        ways,
        "export",
        command.export,
        "write the public part (.cer) for the portal",
        "mailroom certificate export mailroom-graph --to mailroom-graph.cer",
    )
    _target(parser)
    parser.add_argument("--to", metavar="FILE", type=Path, required=True, help="a new file; PEM where its name ends in .pem, else DER")


def _show(ways: Any) -> None:
    parser = _one(
        ways,
        "show",
        command.show,
        "show thumbprints (SHA-1 and x5t, SHA-256 and x5t#S256), subject, key, serial, times, and the versions there are",
        "mailroom certificate show mailroom-graph",
        "mailroom certificate show keystore.jks --password-file store.txt",
    )
    _target(parser)


def _import(ways: Any) -> None:
    parser = _one(
        ways,
        "import",
        command.bring,
        "import key and certificate from a PFX, PEM or Java keystore (PKCS #12, JKS, JCEKS) into the vault",
        "mailroom certificate import mailroom.pfx mailroom-graph",
        "mailroom certificate import keystore.jks mailroom-graph --alias billing --password-env STORE_PASSWORD --key-password-file key.txt",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="its content says what it is, not its name")
    parser.add_argument("name", metavar="NAME", type=_name, help="its name in the vault; where there is one of it this is a new version")
    parser.add_argument("--alias", help="which key, where the file holds several")
    _password(parser, "password", "of the file")
    _password(parser, "key password", "of the key in a JKS or JCEKS, where it is not that of the file")
    _exportable(parser)


def _one(ways: Any, name: str, act: Callable[[Namespace, Actions], None], says: str, *examples: str) -> ArgumentParser:
    epilog = "\n".join(["examples:" if len(examples) > 1 else "example:", *(f"  {example}" for example in examples)])
    parser: ArgumentParser = ways.add_parser(
        name,
        help=says,
        description=textwrap.fill(f"{says[0].upper()}{says[1:]}. {SAYS}", WIDTH),
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(act=act)
    return parser


def _target(parser: ArgumentParser) -> None:
    parser.add_argument("target", metavar="NAME|FILE", type=_target_of, help=TARGET)
    parser.add_argument("--version", default="", help="which version of the vault's (default: the newest)")
    parser.add_argument("--alias", help="which key of the file")
    _password(parser, "password", "of the file")


def _exportable(parser: ArgumentParser) -> None:
    says = 'whether the key may be read out of the vault; one that may not serves with key = "vault" (default: as before)'
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--exportable", dest="exportable", action="store_true", default=None, help=says)
    either.add_argument("--not-exportable", dest="exportable", action="store_false", default=None, help="")


def _password(parser: ArgumentParser, what: str, of: str) -> Any:
    option = f"--{what.replace(' ', '-')}"
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument(f"{option}-file", metavar="FILE", type=Path, help=f"a text file with the {what} {of} (default: it is asked for)")
    ways.add_argument(f"{option}-env", metavar="VARIABLE", help=f"the environment variable that holds the {what}")
    parser.add_argument(option, nargs="?", action=_Refused, help=argparse.SUPPRESS)
    return ways


class _Refused(argparse.Action):
    """A password as an argument: it is not repeated in what is said about it."""

    def __call__(self, parser: ArgumentParser, namespace: Namespace, values: object, option: str | None = None) -> NoReturn:
        parser.error(f"{option} is no argument, since others could see it: use {option}-file or {option}-env, or wait to be asked")


def _name(text: str) -> str:
    if not re.fullmatch(r"[0-9a-zA-Z-]{1,127}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of Key Vault: up to 127 letters, digits and hyphens")
    return text


def _target_of(text: str) -> str | Path:
    return Path(text) if re.search(r"[./\\]", text) else _name(text)


def _months(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_MONTHS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of months from 1 to {MOST_MONTHS}")
    return int(text)


def _subject(text: str) -> str:
    from cryptography import x509

    try:
        x509.Name.from_rfc4514_string(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no distinguished name such as CN=mailroom,O=Contoso") from error
    return text
