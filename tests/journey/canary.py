"""Secrets by the forms in which they could stand somewhere, and the search for them."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

LEAST = 12  # bytes: what is shorter turns up by chance
LIKE_SECRETS = {  # whatever their value: signed tokens and assertions, Google's tokens, keys
    "a signed token": re.compile(rb"eyJ[\w-]{8,}\.[\w-]{20,}\.[\w-]{20,}"),
    "a token of Google's": re.compile(rb"ya29\.[\w.-]{20,}"),
    "a private key": re.compile(rb"PRIVATE KEY"),
}


def forms(secret: bytes) -> Iterator[bytes]:
    """As it is, in hex, URL-encoded, and in the middle of something in base64 or base64url."""
    if len(secret) < LEAST:
        raise ValueError(f"{len(secret)} bytes are too short to be found for sure")
    yield from (secret, secret.hex().encode(), secret.hex().upper().encode())
    yield from (quote(secret).encode(), quote(secret, safe="").encode(), quote_plus(secret).encode())
    for before in range(3):  # base64 makes 4 letters of 3 bytes: what they are depends on where the secret begins
        encoded = base64.b64encode(bytes(before) + secret)
        core = encoded[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]
        yield from (core, core.replace(b"+", b"-").replace(b"/", b"_"))


def of_key(key: RSAPrivateKey) -> list[bytes]:
    """What only a private key has: its primes and exponent, and the lines of its PEM."""
    numbers = key.private_numbers()
    parts = [number.to_bytes((number.bit_length() + 7) // 8, "big") for number in (numbers.p, numbers.q, numbers.d)]
    pems = [key.private_bytes(Encoding.PEM, form, NoEncryption()) for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL)]
    return [*(part[8:40] for part in parts), *(line for pem in pems for line in pem.splitlines()[4:8])]


@dataclass
class Canaries:
    """Secrets by what they are."""

    known: dict[str, set[bytes]] = field(default_factory=dict)

    def add(self, what: str, *secrets: str | bytes) -> None:
        self.known.setdefault(what, set()).update(one.encode() if isinstance(one, str) else one for one in secrets)

    def found(self, places: Mapping[str, bytes], only: Callable[[str], bool] = lambda _: True) -> set[tuple[str, str]]:
        """What stands where."""
        wanted = [(what, form) for what, secrets in self.known.items() if only(what) for secret in secrets for form in forms(secret)]
        hits = {(what, place) for place, text in places.items() for what, form in wanted if form in text}
        alike = {(what, place) for place, text in places.items() for what, pattern in LIKE_SECRETS.items() if pattern.search(text)}
        return hits | alike


def files(folder: Path, pattern: str = "**/*") -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob(pattern) if path.is_file()}


def joined(texts: Iterable[str]) -> bytes:
    return "\n".join(texts).encode()
