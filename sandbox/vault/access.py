"""Who may do what: the challenge, the token's check, and Azure's built-in roles.

learn.microsoft.com/azure/key-vault/general/authentication-requests-and-responses and .../rbac-guide.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from starlette.requests import Request
from starlette.responses import Response

from sandbox.directory import VAULT, App, BadToken, Directory, WrongAudience, client_of
from sandbox.vault.errors import VaultError, bad_parameter

Handler = Callable[[Request], Awaitable[Response]]

ROLES = {
    "Key Vault Administrator": ("*",),
    "Key Vault Reader": ("*/read", "secrets/readMetadata/action"),
    "Key Vault Secrets Officer": ("secrets/*",),
    "Key Vault Secrets User": ("secrets/getSecret/action", "secrets/readMetadata/action"),
    "Key Vault Certificates Officer": ("certificates/*",),
    "Key Vault Certificate User": ("certificates/read", "secrets/getSecret/action", "secrets/readMetadata/action", "keys/read"),
    "Key Vault Crypto User": ("keys/read", "keys/sign/action"),
}


@dataclass(frozen=True, slots=True)
class Operation:
    """`action` is the data action it takes, without "Microsoft.KeyVault/vaults/"."""

    method: str
    path: str
    action: str
    handler: Handler


class Challenge(VaultError):
    """401, with the header that tells a client where to sign in and for what."""

    def __init__(self, message: str, header: str) -> None:
        super().__init__(401, "Unauthorized", message)
        self.header = header


@dataclass(frozen=True, slots=True)
class Access:
    directory: Directory

    def guard(self, operation: Operation) -> Handler:
        async def guarded(request: Request) -> Response:
            self._authorize(self._caller(request), operation.action, request)
            if not request.query_params.get("api-version"):
                raise bad_parameter("api-version must be specified")
            return await operation.handler(request)

        return guarded

    def _caller(self, request: Request) -> App:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise self._challenge(request, "AKV10000: Request is missing a Bearer or PoP token.")
        try:
            claims = self.directory.check(token, [VAULT])
        except WrongAudience as error:
            raise self._challenge(request, f"AKV10022: Invalid audience. Expected {VAULT}, found: {error.found}.") from error
        except BadToken as error:
            raise self._challenge(request, f"Error validating token: '{error.reason}'") from error
        return self.directory.apps[client_of(claims)]

    def _challenge(self, request: Request, message: str) -> Challenge:
        """The SDK wants the resource's host to be what the vault's host ends in, after a dot, port included (aka.ms/azsdk/blog/vault-uri).

        On loopback that is 0.0.1:PORT for a vault at https://127.0.0.1:PORT: nobody ever connects to it, and no name has to resolve.
        """
        resource = f"https://0.0.1:{request.scope['server'][1]}"
        self.directory.alias(VAULT, resource)
        authorization = self.directory.login_url(self.directory.tenant)
        return Challenge(message, f'Bearer authorization="{authorization}", resource="{resource}"')

    def _authorize(self, app: App, action: str, request: Request) -> None:
        patterns = [pattern for role in app.azure_roles for pattern in ROLES.get(role, ())]
        if any(fnmatchcase(action, pattern) for pattern in patterns):
            return
        vault = "/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/mailroom/providers/microsoft.keyvault/vaults/mailroom"
        message = (
            "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role definitions were "
            f"changed recently, please observe propagation time.\r\nCaller: appid={app.client_id};oid={app.object_id};"
            f"iss={self.directory.issuer(1)}\r\nAction: 'Microsoft.KeyVault/vaults/{action}'\r\nResource: '{vault}{request.url.path}'\r\n"
            "Assignment: (not found)\r\nDenyAssignmentId: null\r\nDecisionReason: null \r\nVault: mailroom;location=local\r\n"
        )
        raise VaultError(403, "Forbidden", message, "ForbiddenByRbac")
