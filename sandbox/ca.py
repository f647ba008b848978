"""A certificate authority for one start of the sandbox, and the certificate its services show on localhost."""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LOCALHOST = [x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1")), x509.IPAddress(IPv6Address("::1"))]
PEM_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")


@dataclass(frozen=True, slots=True)
class Ca:
    """`bundle` trusts this authority as well as everything this machine trusted before: fit for SSL_CERT_FILE and REQUESTS_CA_BUNDLE."""

    folder: Path

    @property
    def bundle(self) -> Path:
        return self.folder / "ca-bundle.pem"

    def context(self) -> ssl.SSLContext:
        """For a client in this process."""
        return ssl.create_default_context(cafile=self.bundle)

    def cert_for_localhost(self) -> tuple[Path, Path]:
        """The certificate file and the key file."""
        return self.folder / "localhost.pem", self.folder / "localhost-key.pem"

    @classmethod
    def create(cls, folder: Path) -> Ca:
        folder.mkdir(parents=True, exist_ok=True)
        ca = cls(folder)
        root_key = ec.generate_private_key(ec.SECP256R1())
        root = _root(root_key)
        ca.bundle.write_bytes(b"\n".join([root.public_bytes(Encoding.PEM), *_roots_of_this_machine(but=ca.bundle)]))
        key = ec.generate_private_key(ec.SECP256R1())
        certificate_file, key_file = ca.cert_for_localhost()
        certificate_file.write_bytes(_leaf(key, root, root_key).public_bytes(Encoding.PEM))
        key_file.touch(mode=0o600)
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return ca


def _roots_of_this_machine(but: Path) -> list[bytes]:
    """A bundle replaces the default one wherever it is set, so it has to hold the public roots and a company proxy's too.

    Each of them once: most are in every file, and loading them takes its time in each new process.
    """
    files = [certifi.where(), ssl.get_default_verify_paths().cafile, os.environ.get("REQUESTS_CA_BUNDLE")]
    paths = {Path(file).resolve() for file in files if file} - {but.resolve()}
    found = (block for path in sorted(paths) if path.is_file() for block in PEM_BLOCK.findall(path.read_bytes()))
    return list(dict.fromkeys(found))


def _root(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Mailroom sandbox CA")])
    return (
        _builder(name, name, key.public_key(), key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _leaf(key: ec.EllipticCurvePrivateKey, root: x509.Certificate, root_key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    return (
        _builder(name, root.subject, key.public_key(), root_key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(LOCALHOST), critical=False)
        .sign(root_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, signer: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    """With both key identifiers, because Python 3.13 verifies with VERIFY_X509_STRICT (RFC 5280, 4.2.1.1)."""
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=90))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )


def _key_usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        key_cert_sign=certificates,
        crl_sign=certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
