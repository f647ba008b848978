"""/keys, for the keys of certificates: learn.microsoft.com/rest/api/keyvault/keys."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sandbox.vault.access import Operation
from sandbox.vault.contents import Certificate, Vault
from sandbox.vault.errors import bad_parameter, disabled, not_found
from sandbox.vault.wire import base, body_of, name_in, version_in

DIGEST = hashes.SHA256()
PADDINGS: dict[str, AsymmetricPadding] = {
    "PS256": padding.PSS(padding.MGF1(DIGEST), padding.PSS.DIGEST_LENGTH),
    "RS256": padding.PKCS1v15(),
}


def operations(vault: Vault) -> Iterator[Operation]:
    keys = Keys(vault)
    for path in ("/keys/{name}", "/keys/{name}/", "/keys/{name}/{version}"):
        yield Operation("GET", path, "keys/read", keys.get)
    for path in ("/keys/{name}/sign", "/keys/{name}//sign", "/keys/{name}/{version}/sign"):
        yield Operation("POST", path, "keys/sign/action", keys.sign)


class Keys:
    def __init__(self, vault: Vault) -> None:
        self.shelf = vault.certificates

    async def get(self, request: Request) -> Response:
        certificate = self._find(request)
        numbers = certificate.key.public_key().public_numbers()
        key = {
            "kid": _kid(request, certificate),
            "kty": "RSA",
            "key_ops": ["sign", "verify", "wrapKey", "unwrapKey", "encrypt", "decrypt"],
            "n": _number(numbers.n),
            "e": _number(numbers.e),
        }
        return JSONResponse({"key": key, "attributes": certificate.attributes, "managed": True})

    async def sign(self, request: Request) -> Response:
        """Signs a digest: the key itself never leaves."""
        certificate, body = self._find(request), await body_of(request)
        if not certificate.enabled:
            raise disabled("Key")
        if body.get("alg") not in PADDINGS:
            raise bad_parameter(f"Property alg has invalid value '{body.get('alg')}'; this key signs {' and '.join(PADDINGS)}.")
        signature = certificate.key.sign(_digest(body.get("value")), PADDINGS[body["alg"]], Prehashed(DIGEST))
        return JSONResponse({"kid": _kid(request, certificate), "value": _base64url(signature)})

    def _find(self, request: Request) -> Certificate:
        name, version = name_in(request), version_in(request)
        for certificate in reversed(self.shelf.versions(name)):
            if version in ("", certificate.version):
                return certificate
        raise not_found("Key", name)


def _digest(value: object) -> bytes:
    try:
        digest = base64.b64decode(f"{value}{'=' * (-len(str(value)) % 4)}", altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise bad_parameter("Property value is no base64url.") from error
    if len(digest) != DIGEST.digest_size:
        raise bad_parameter(f"Property value has an invalid length of {len(digest)} bytes; the digest has {DIGEST.digest_size}.")
    return digest


def _kid(request: Request, certificate: Certificate) -> str:
    return f"{base(request)}/keys/{certificate.name}/{certificate.version}"


def _number(value: int) -> str:
    return _base64url(value.to_bytes((value.bit_length() + 7) // 8))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
