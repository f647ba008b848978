"""/secrets: learn.microsoft.com/rest/api/keyvault/secrets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sandbox.vault.access import Operation
from sandbox.vault.contents import Secret, Vault
from sandbox.vault.errors import bad_parameter
from sandbox.vault.wire import attributes_in, base, body_of, deletion, given, name_in, page, version_in

LARGEST = 25 * 1024


def operations(vault: Vault) -> Iterator[Operation]:
    secrets = Secrets(vault)
    read, metadata = "secrets/getSecret/action", "secrets/readMetadata/action"
    yield Operation("GET", "/secrets", metadata, secrets.list)
    yield Operation("GET", "/secrets/{name}/versions", metadata, secrets.list_versions)
    for path in ("/secrets/{name}", "/secrets/{name}/", "/secrets/{name}/{version}"):  # the SDK leaves the slash when it wants the newest
        yield Operation("GET", path, read, secrets.get)
        yield Operation("PATCH", path, "secrets/update/action", secrets.update)
    yield Operation("PUT", "/secrets/{name}", "secrets/setSecret/action", secrets.set)
    yield Operation("DELETE", "/secrets/{name}", "secrets/delete", secrets.delete)
    yield Operation("GET", "/deletedsecrets/{name}", metadata, secrets.get_deleted)
    yield Operation("POST", "/deletedsecrets/{name}/recover", "secrets/recover/action", secrets.recover)
    yield Operation("DELETE", "/deletedsecrets/{name}", "secrets/purge/action", secrets.purge)


class Secrets:
    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        self.shelf = vault.secrets

    async def get(self, request: Request) -> Response:
        return JSONResponse(_bundle(request, self.shelf.get(name_in(request), version_in(request))))

    async def set(self, request: Request) -> Response:
        name, body = name_in(request), await body_of(request)
        value = body.get("value")
        if not isinstance(value, str):
            raise bad_parameter("Property value is missing or no string.")
        if len(value) > LARGEST:
            raise bad_parameter(f"Property value exceeds the maximum length of {LARGEST} characters.")
        return JSONResponse(_bundle(request, self.vault.set_secret(name, value, body.get("contentType"), **attributes_in(body))))

    async def update(self, request: Request) -> Response:
        """Everything but the value."""
        secret, body = self.shelf.find(name_in(request), version_in(request)), await body_of(request)
        for attribute, value in attributes_in(body).items():
            setattr(secret, attribute, value)
        secret.content_type = body.get("contentType", secret.content_type)
        secret.updated = int(self.shelf.now())
        return JSONResponse(_described(request, secret, versioned=True))

    async def list(self, request: Request) -> Response:
        return page(request, self.shelf.newest(), lambda secret: _described(request, secret, versioned=False))

    async def list_versions(self, request: Request) -> Response:
        versions = self.shelf.versions(name_in(request))
        return page(request, versions, lambda secret: _described(request, secret, versioned=True))

    async def delete(self, request: Request) -> Response:
        name = name_in(request)
        if self.shelf.find(name).of_certificate:
            raise bad_parameter("A secret that is managed by a certificate is deleted with the certificate.")
        secret, when = self.shelf.delete(name)
        return JSONResponse(_described(request, secret, versioned=True) | deletion(request, "secrets", secret, when))

    async def get_deleted(self, request: Request) -> Response:
        secret, when = self.shelf.find_deleted(name_in(request))
        return JSONResponse(_described(request, secret, versioned=True) | deletion(request, "secrets", secret, when))

    async def recover(self, request: Request) -> Response:
        return JSONResponse(_described(request, self.shelf.recover(name_in(request)), versioned=True))

    async def purge(self, request: Request) -> Response:
        self.shelf.purge(name_in(request))
        return Response(status_code=204)


def _bundle(request: Request, secret: Secret) -> dict[str, Any]:
    return {"value": secret.value} | _described(request, secret, versioned=True)


def _described(request: Request, secret: Secret, *, versioned: bool) -> dict[str, Any]:
    path = f"{secret.name}/{secret.version}" if versioned else secret.name
    of_certificate = secret.of_certificate or None
    return given(
        contentType=secret.content_type,
        id=f"{base(request)}/secrets/{path}",
        attributes=secret.attributes,
        tags=secret.tags,
        managed=of_certificate,
        kid=of_certificate and f"{base(request)}/keys/{secret.name}/{secret.version}",
    )
