"""What each `mailroom certificate` command does. Files are read and checked first, so a vault is changed only by what is right."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cli.certificate import described, keystore, local
from cli.certificate.entry import Contents
from cli.certificate.passwords import Password
from cli.certificate.vault import BITS, MONTHS, Bundle, CertificateVault, Wish
from mailroom.errors import BadInput

STAYS = {
    True: "may be exported: whoever reads secrets of the vault can read it",
    False: "stays in the vault: it can't be exported",
    None: "as the policy of the newest version says",
}


@dataclass(frozen=True, slots=True)
class Actions:
    """`show` tells the person one line."""

    show: Callable[[str], None]
    now: Callable[[], datetime]

    async def make(self, vault: CertificateVault, name: str, wish: Wish) -> None:
        made = await vault.make(name, wish)
        self._kept(name, made, "was made in the vault")

    async def bring(self, vault: CertificateVault, path: Path, found: keystore.Material, name: str, exportable: bool | None) -> None:
        kept = await vault.bring(name, found.pem(), found.key.key_size, exportable)
        self._kept(name, kept, f"was imported from {path.name}")
        self.show(f"  → {path} still holds the key: delete it where nobody else needs it.")

    def make_here(self, folder: Path, name: str, wish: Wish, password: Password | None) -> None:
        """`password` None: one is generated, into a file."""
        kept = folder / f"{name}.password"
        local.check_free([*(folder / f"{name}.{kind}" for kind in ("pfx", "pem", "cer")), *([] if password else [kept])])
        secret = password.new() if password else secrets.token_urlsafe(24)
        key, certificate = local.made(wish.subject or f"CN={name}", wish.months or MONTHS, wish.bits or BITS, self.now())
        files = local.files(folder, name, key, certificate, secret)
        local.write(files if password else [*files, local.File(kept, secret.encode())])
        self.show(f"✓ {name} was made in {folder}: {name}.pfx and {name}.pem hold the key, {name}.cer is the public part")
        self._describe(certificate)
        self.show(f"  → Upload {name}.cer: App registrations → your application → Certificates & secrets → Certificates.")
        option = "" if password else f" --password-file {kept}"
        self.show(f"  → Bring it into the vault: mailroom certificate import {folder / name}.pfx {name}{option}")

    def show_file(self, path: Path, found: Contents, alias: str | None) -> None:
        entries = [keystore.chosen(path, found, alias)] if alias is not None else found.entries
        for entry in entries:
            self.show(f"{path.name}, {entry.alias!r}: a private key" + ("" if entry.chain else " without a certificate"))
            for certificate in entry.chain[:1]:
                self._describe(certificate)
        for name, trusted in found.trusted if alias is None else ():
            said = "a certificate without a private key" if trusted else "a certificate that can't be read"
            self.show(f"{path.name}{f', {name!r}' if name else ''}: {said}")
            if trusted:
                self._describe(trusted)
        if not entries and not found.trusted:
            raise BadInput("keystore_key_missing", f"{path.name} holds no private key and no certificate.", "Is it the right file?")

    async def show_name(self, vault: CertificateVault, name: str, version: str) -> None:
        newest, versions = await vault.get(name), await vault.versions(name)
        bundle = await vault.get(name, version) if version else newest
        self.show(f"{name}, version {bundle.version}: its key {STAYS[bundle.exportable]}")
        self._describe(x509.load_der_x509_certificate(bundle.cer))
        for line in described.versions(versions, newest.version, self.now()):
            self.show(line)

    async def list(self, vault: CertificateVault) -> None:
        found = await vault.all()
        for line in described.named(found, self.now()):
            self.show(line)
        if not found:
            self.show("There is no certificate in the vault. `mailroom certificate make NAME` makes one.")

    def export(self, certificate: x509.Certificate, what: str, to: Path) -> None:
        """DER, or PEM for a name that says so: the portal takes both, `az` the second."""
        name, form = ("PEM", Encoding.PEM) if to.suffix.lower() == ".pem" else ("DER", Encoding.DER)
        local.write([local.File(to, certificate.public_bytes(form), local.ALL)])
        self.show(f"✓ {to} is the public part of {what}, as {name}; it holds no key")
        self._describe(certificate)

    def _kept(self, name: str, bundle: Bundle, done: str) -> None:
        self.show(f"✓ {name} {done} as version {bundle.version}; its key {STAYS[bundle.exportable]}")
        self._describe(x509.load_der_x509_certificate(bundle.cer))
        self.show(f"  → Register it: mailroom certificate export {name} --to {name}.cer, and upload that in the portal:")
        self.show("    App registrations → your application → Certificates & secrets → Certificates.")
        key = "" if bundle.exportable else ' and key = "vault"'
        self.show(f'  → In accounts.toml: certificate = "{name}"{key}')

    def _describe(self, certificate: x509.Certificate) -> None:
        for line in described.lines(certificate, self.now()):
            self.show(line)


def public_part(path: Path, found: Contents, alias: str | None) -> x509.Certificate:
    """The one certificate of the file that is meant."""
    if alias is None and not found.entries and len(found.trusted) == 1 and (only := found.trusted[0][1]):
        return only
    entry = keystore.chosen(path, found, alias)
    if not entry.chain:
        raise BadInput("certificate_missing", f"{path.name} holds a private key and no certificate that belongs to it.", "Export both.")
    return entry.chain[0]
