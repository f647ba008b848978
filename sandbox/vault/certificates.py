"""/certificates: learn.microsoft.com/rest/api/keyvault/certificates."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sandbox.vault import pfx
from sandbox.vault.access import Operation
from sandbox.vault.contents import Certificate, Vault
from sandbox.vault.errors import bad_parameter
from sandbox.vault.wire import attributes_in, base, body_of, deletion, given, name_in, page, version_in


def operations(vault: Vault) -> Iterator[Operation]:
    certificates = Certificates(vault)
    read = "certificates/read"
    yield Operation("GET", "/certificates", read, certificates.list)
    yield Operation("POST", "/certificates/{name}/create", "certificates/create/action", certificates.create)
    yield Operation("POST", "/certificates/{name}/import", "certificates/import/action", certificates.import_)
    yield Operation("GET", "/certificates/{name}/pending", read, certificates.pending)
    yield Operation("GET", "/certificates/{name}/versions", read, certificates.list_versions)
    yield Operation("GET", "/certificates/{name}/policy", read, certificates.policy)
    for path in ("/certificates/{name}", "/certificates/{name}/", "/certificates/{name}/{version}"):
        yield Operation("GET", path, read, certificates.get)
    yield Operation("DELETE", "/certificates/{name}", "certificates/delete", certificates.delete)
    yield Operation("GET", "/deletedcertificates/{name}", read, certificates.get_deleted)
    yield Operation("POST", "/deletedcertificates/{name}/recover", "certificates/recover/action", certificates.recover)
    yield Operation("DELETE", "/deletedcertificates/{name}", "certificates/purge/action", certificates.purge)


class Certificates:
    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        self.shelf = vault.certificates

    async def get(self, request: Request) -> Response:
        return JSONResponse(_bundle(request, self.shelf.find(name_in(request), version_in(request))))

    async def create(self, request: Request) -> Response:
        """Done at once, but answered as the long operation that it is: 202, then `pending` says when."""
        name, body = name_in(request), await body_of(request)
        policy = body.get("policy")
        if not policy and not self.shelf.versions(name):
            raise bad_parameter("Property policy is missing.")
        self.vault.create_certificate(name, policy, **_settable(body))
        location = f"{base(request)}/certificates/{name}/pending"
        return JSONResponse(_operation(request, name, "inProgress"), 202, headers={"Location": location, "Retry-After": "0"})

    async def pending(self, request: Request) -> Response:
        name = self.shelf.find(name_in(request)).name
        if self.vault.polls:
            self.vault.polls -= 1
            return JSONResponse(_operation(request, name, "inProgress"))
        if self.vault.outcome != "completed":
            error = {"code": "Unknown", "message": "The issuer did not sign."}
            return JSONResponse(_operation(request, name, self.vault.outcome) | {"error": error})
        return JSONResponse(_operation(request, name, "completed") | {"target": f"{base(request)}/certificates/{name}"})

    async def import_(self, request: Request) -> Response:
        name, body = name_in(request), await body_of(request)
        if not isinstance(body.get("value"), str):
            raise bad_parameter("Property value is missing or no string.")
        key, certificate, content_type = pfx.decode(body["value"], body.get("pwd"))
        asked = ((body.get("policy") or {}).get("secret_props") or {}).get("contentType") or pfx.PFX
        if asked != content_type:  # it takes the policy's word for what the value is
            raise bad_parameter(f"The specified X.509 certificate content can not be read as {asked}.")
        policy = pfx.complete(body.get("policy"), certificate, key, issuer="Unknown", content_type=content_type)
        kept = self.vault.add_certificate(name, key, certificate, policy, **_settable(body))
        return JSONResponse(_bundle(request, kept))

    async def policy(self, request: Request) -> Response:
        return JSONResponse(_policy(request, self.shelf.find(name_in(request))))

    async def list(self, request: Request) -> Response:
        return page(request, self.shelf.newest(), lambda certificate: _described(request, certificate, versioned=False))

    async def list_versions(self, request: Request) -> Response:
        versions = self.shelf.versions(name_in(request))
        return page(request, versions, lambda certificate: _described(request, certificate, versioned=True))

    async def delete(self, request: Request) -> Response:
        return _gone(request, *self.vault.delete_certificate(name_in(request)))

    async def get_deleted(self, request: Request) -> Response:
        return _gone(request, *self.shelf.find_deleted(name_in(request)))

    async def recover(self, request: Request) -> Response:
        return JSONResponse(_bundle(request, self.vault.recover_certificate(name_in(request))))

    async def purge(self, request: Request) -> Response:
        self.vault.purge_certificate(name_in(request))
        return Response(status_code=204)


def _settable(body: dict[str, Any]) -> dict[str, Any]:
    """A certificate's times are its own, whatever the request says."""
    return {name: value for name, value in attributes_in(body).items() if name in ("enabled", "tags")}


def _gone(request: Request, certificate: Certificate, when: int) -> Response:
    return JSONResponse(_bundle(request, certificate) | deletion(request, "certificates", certificate, when))


def _bundle(request: Request, certificate: Certificate) -> dict[str, Any]:
    path = f"{certificate.name}/{certificate.version}"
    der = certificate.certificate.public_bytes(Encoding.DER)
    return _described(request, certificate, versioned=True) | {
        "kid": f"{base(request)}/keys/{path}",
        "sid": f"{base(request)}/secrets/{path}",
        "cer": base64.b64encode(der).decode(),
        "policy": _policy(request, certificate),
    }


def _described(request: Request, certificate: Certificate, *, versioned: bool) -> dict[str, Any]:
    path = f"{certificate.name}/{certificate.version}" if versioned else certificate.name
    thumbprint = base64.urlsafe_b64encode(certificate.certificate.fingerprint(hashes.SHA1()))
    return given(
        id=f"{base(request)}/certificates/{path}",
        x5t=thumbprint.rstrip(b"=").decode(),
        attributes=certificate.attributes,
        tags=certificate.tags,
    )


def _policy(request: Request, certificate: Certificate) -> dict[str, Any]:
    return {"id": f"{base(request)}/certificates/{certificate.name}/policy"} | certificate.policy


def _operation(request: Request, name: str, status: str) -> dict[str, Any]:
    return {
        "id": f"{base(request)}/certificates/{name}/pending",
        "issuer": {"name": "Self"},
        "cancellation_requested": False,
        "status": status,
    }
