"""Who may do what through HTTP: bearer token -> Caller, or a refusal that says which check failed.

learn.microsoft.com/entra/identity-platform/access-tokens, "Validate tokens": signature, issuer, audience, times, tenant, then what the
token allows, then who asks. Callers are applications: a user's token is refused. No callers configured: the gate is closed.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable

import httpx

from mailroom.errors import Forbidden, Unauthorized
from mailroom.gate.claims import SKEW, Claims, checked
from mailroom.gate.keys import SigningKeys
from mailroom.model.account import Caller, Operation, Settings

ROLES: dict[Operation, str] = {"send": "Mail.Send", "read": "Mail.Read", "manage": "Mail.Manage"}
REMEMBERED = 1000
LONGEST = 16 * 1024
_BEARER = re.compile(r"Bearer +(\S+) *", re.IGNORECASE)

__all__ = ["Gate"]


class Gate:
    def __init__(
        self,
        settings: Settings,
        client: httpx.AsyncClient,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        remembered: int = REMEMBERED,
    ) -> None:
        self._api = settings.api
        self._keys = SigningKeys(settings.api, client, monotonic=monotonic) if settings.api else None
        self._callers = {caller.client_id: caller for caller in settings.callers.values()}
        self._now = now
        self._size = remembered
        self._remembered: OrderedDict[bytes, Claims] = OrderedDict()

    async def admit(self, authorization: str | None, operation: Operation) -> Caller:
        """Raises Unauthorized, Forbidden, or AuthorityDown when nobody can say which keys are good."""
        if self._api is None or self._keys is None or not self._callers:
            raise Forbidden("gate_closed", "No callers are configured here.", "Add [api] and [callers.NAME] to accounts.toml.")
        token = _bearer(authorization)
        digest = hashlib.sha256(token.encode()).digest()
        claims = self._remembered.get(digest)
        if claims is None or claims.exp + SKEW <= self._now():
            claims = await checked(token, self._api, self._keys, self._now())
            self._remember(digest, claims)
        return self._caller(claims, operation)

    def allow(self, caller: Caller, account: str) -> None:
        """Raises Forbidden."""
        if not caller.may_use(account):
            raise Forbidden(
                "account_not_allowed",
                f"Caller {caller.name!r} may not use account {account!r}.",
                f"Add it to `accounts` of [callers.{caller.name}], or use another account.",
            )

    def _remember(self, digest: bytes, claims: Claims) -> None:
        self._remembered[digest] = claims
        self._remembered.move_to_end(digest)
        if len(self._remembered) > self._size:
            self._remembered.popitem(last=False)

    def _caller(self, claims: Claims, operation: Operation) -> Caller:
        role = ROLES[operation]
        if role not in claims.roles:
            found = ", ".join(sorted(claims.roles)) or "none"
            raise Forbidden(
                "role_missing",
                f"The token has not the role {role}; its roles: {found}.",
                f"Assign the caller the app role {role} of our API.",
            )
        caller = self._callers.get(claims.client)
        if caller is None:
            raise Forbidden(
                "caller_unknown", f"Nobody here knows the client {claims.client}.", "Add it to accounts.toml as [callers.NAME]."
            )
        if operation not in caller.operations:
            what = f"Caller {caller.name!r} may not {operation}."
            raise Forbidden("operation_not_allowed", what, f"Add {operation!r} to `operations` of [callers.{caller.name}].")
        return caller


def _bearer(authorization: str | None) -> str:
    """The token in an Authorization header (RFC 6750, 2.1)."""
    if not authorization:
        raise Unauthorized("token_missing", "The request has no Authorization header.", "Send `Authorization: Bearer TOKEN`.")
    found = _BEARER.fullmatch(authorization)
    if found is None:
        raise Unauthorized("token_missing", "The Authorization header holds no bearer token.", "Send `Authorization: Bearer TOKEN`.")
    if len(found[1]) > LONGEST:
        raise Unauthorized("token_malformed", f"The token has {len(found[1])} characters.", f"No token has more than {LONGEST}.")
    return found[1]
