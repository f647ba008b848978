"""`mailroom certificate`: who does what its arguments say, and how it ends."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cli.check import settings_wrong
from mailroom import wiring
from mailroom.errors import BadInput, BadSettings, MailroomError

if TYPE_CHECKING:
    from cli.certificate.actions import Actions
    from cli.certificate.entry import Contents
    from cli.certificate.passwords import Password
    from cli.certificate.vault import CertificateVault

INTERRUPTED = 130


def run(given: argparse.Namespace) -> int:
    """Exit status 0: done; 1: not, and one line on stderr says why, with its code and what to do."""
    from cli.certificate.actions import Actions

    actions = Actions(lambda text: print(text, flush=True), lambda: datetime.now(UTC))
    try:
        given.act(given, actions)
    except BadSettings as error:
        print(settings_wrong(error))
        return 1
    except MailroomError as error:
        print(f"mailroom: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def make(given: argparse.Namespace, actions: Actions) -> None:
    from cli.certificate.vault import Wish

    wish = Wish(given.subject, given.months, given.key_size, given.exportable, given.auto_renew)
    password = _password(given, "password")
    if given.local is None:
        if password.told or given.generate_password:
            raise BadInput("argument_unfit", "A key in the vault has no password.", "Leave it out, or give --local DIR.")
        _in_vault(lambda vault: actions.make(vault, given.name, wish))
        return
    if given.exportable is not None or given.auto_renew is not None:
        raise BadInput("argument_unfit", "With --local there is no vault to keep a key or to renew it.", "Leave out what is for the vault.")
    actions.make_here(given.local, given.name, wish, None if given.generate_password else password)


def bring(given: argparse.Namespace, actions: Actions) -> None:
    from cli.certificate import keystore

    own = _password(given, "key password")
    found = keystore.material(given.file, _opened(given.file, given), given.alias, own, actions.now())
    _in_vault(lambda vault: actions.bring(vault, given.file, found, given.name, given.exportable))


def show(given: argparse.Namespace, actions: Actions) -> None:
    if isinstance(given.target, Path):
        actions.show_file(given.target, _opened(given.target, given), given.alias)
    else:
        _in_vault(lambda vault: actions.show_name(vault, given.target, given.version))


def export(given: argparse.Namespace, actions: Actions) -> None:
    from cryptography import x509

    from cli.certificate.actions import public_part

    if isinstance(given.target, Path):
        certificate = public_part(given.target, _opened(given.target, given), given.alias)
        actions.export(certificate, given.target.name, given.to)
        return

    async def exported(vault: CertificateVault) -> None:
        bundle = await vault.get(given.target, given.version)
        actions.export(x509.load_der_x509_certificate(bundle.cer), f"{given.target}, version {bundle.version}", given.to)

    _in_vault(exported)


def list_all(given: argparse.Namespace, actions: Actions) -> None:
    _in_vault(actions.list)


def _in_vault(act: Callable[[CertificateVault], Awaitable[None]]) -> None:
    async def acted() -> None:
        from cli.certificate.vault import CertificateVault

        async with wiring.client():
            await act(CertificateVault(wiring.vault_wire()))

    asyncio.run(acted())


def _opened(path: Path, given: argparse.Namespace) -> Contents:
    from cli.certificate import keystore

    return keystore.opened(path, _password(given, "password"))


def _password(given: argparse.Namespace, what: str) -> Password:
    from cli.certificate.passwords import Password

    name = what.replace(" ", "_")
    return Password(what, f"--{what.replace(' ', '-')}", getattr(given, f"{name}_file"), getattr(given, f"{name}_env"))
