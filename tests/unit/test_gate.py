"""The gate: each check that a token can fail by itself, and who may do what with a good one."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from mailroom.errors import AuthorityDown, Forbidden, MailroomError, Unauthorized
from mailroom.gate import Gate
from mailroom.model.account import Api, Caller, Cloud, Operation, Settings

TENANT = "11111111-2222-3333-4444-555555555555"
OTHER_TENANT = "99999999-2222-3333-4444-555555555555"
CLIENT = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
LOGIN = "https://login.example"
ISSUER = f"{LOGIN}/{TENANT}/v2.0"
CLOUD = Cloud(LOGIN, "https://graph/v1.0", "scope", "vault", "storage")
API = Api(TENANT, frozenset({"api://mailroom", "api-client"}), CLOUD)
SHOP = Caller("shop", CLIENT, frozenset({"billing"}), frozenset({"send", "read"}))
NOW = 1_700_000_000.0
KEY = RSAKey.generate_key(2048, auto_kid=True)
STRANGER = RSAKey.generate_key(2048, auto_kid=True)


def settings(api: Api | None = API, callers: dict[str, Caller] | None = None) -> Settings:
    return Settings({}, {}, {"shop": SHOP} if callers is None else callers, api, CLOUD, None, None)


def token(key: Any = KEY, header: dict[str, Any] | None = None, **claims: Any) -> str:
    """A good token of version 2, but for what is given; None leaves a member out."""
    head = {"typ": "JWT", "alg": "RS256", "kid": key.kid} | (header or {})
    body = {
        "iss": ISSUER,
        "aud": "api-client",
        "exp": NOW + 3600,
        "nbf": NOW - 300,
        "tid": TENANT,
        "azp": CLIENT,
        "roles": ["Mail.Send"],
    } | claims
    return jwt.encode(
        *({name: value for name, value in part.items() if value is not None} for part in (head, body)),
        key,
        algorithms=["RS256", "PS256", "HS256"],
    )


@dataclass
class Authority:
    """The discovery documents; `status` other than 200 makes both fail."""

    keys: list[Any] = field(default_factory=lambda: [KEY])
    key_issuer: str | None = LOGIN + "/{tenantid}/v2.0"
    metadata: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    body: bytes | None = None
    asked: list[str] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        if self.status == 0:
            raise httpx.ConnectError("refused")
        if self.status != 200 or self.body is not None:
            return httpx.Response(self.status, content=self.body or b"", headers={"Retry-After": "0"})
        if request.url.path.endswith("openid-configuration"):
            return httpx.Response(200, json={"issuer": ISSUER, "jwks_uri": f"{LOGIN}/{TENANT}/discovery/v2.0/keys"} | self.metadata)
        extra = {"use": "sig"} | ({"issuer": self.key_issuer} if self.key_issuer else {})
        return httpx.Response(200, json={"keys": [key.as_dict(private=False) | extra for key in self.keys]})


class House:
    def __init__(self, conf: Settings | None = None, **options: Any) -> None:
        self.authority = Authority()
        self.now, self.monotonic = NOW, 0.0
        client = httpx.AsyncClient(transport=httpx.MockTransport(self.authority))
        self.gate = Gate(conf or settings(), client, now=lambda: self.now, monotonic=lambda: self.monotonic, **options)

    async def admit(self, what: str, operation: Operation = "send") -> Caller:
        return await self.gate.admit(f"Bearer {what}", operation)

    async def refused(self, authorization: str | None, operation: Operation = "send") -> MailroomError:
        with pytest.raises(MailroomError) as raised:
            await self.gate.admit(authorization, operation)
        assert raised.value.next_step or raised.value.retry_after is not None
        return raised.value


@pytest.fixture
def house() -> House:
    return House()


async def test_a_good_token_names_its_caller(house: House) -> None:
    """Version 2 and version 1, each with its own issuer and client claim."""
    assert await house.admit(token()) == SHOP
    v1 = token(iss=f"https://sts.windows.net/{TENANT}/", aud="api://mailroom", azp=None, appid=CLIENT.upper())
    assert await house.admit(v1) == SHOP
    assert await house.gate.admit(f"bearer  {token()}", "send") == SHOP


WRONG: dict[str, tuple[str, type[MailroomError], str]] = {
    "other key": (token(STRANGER), Unauthorized, "token_signature"),
    "other key under our kid": (token(STRANGER, {"kid": KEY.kid}), Unauthorized, "token_signature"),
    "no kid": (token(header={"kid": None}), Unauthorized, "token_malformed"),
    "HMAC with our public key": (
        token(OctKey.import_key(KEY.as_dict(private=False)["n"]), {"alg": "HS256", "kid": KEY.kid}),
        Unauthorized,
        "token_signature",
    ),
    "other RSA algorithm": (token(header={"alg": "PS256"}), Unauthorized, "token_signature"),
    "other issuer": (token(iss=f"https://evil.example/{TENANT}/v2.0"), Unauthorized, "token_issuer"),
    "issuer but for a slash": (token(iss=ISSUER + "/"), Unauthorized, "token_issuer"),
    "other tenant's issuer": (token(iss=ISSUER.replace(TENANT, OTHER_TENANT)), Unauthorized, "token_issuer"),
    "other tenant": (token(tid=OTHER_TENANT), Unauthorized, "token_issuer"),
    "no tenant": (token(tid=None), Unauthorized, "token_malformed"),
    "other audience": (token(aud="https://graph.microsoft.com"), Unauthorized, "token_audience"),
    "several audiences": (token(aud=["api-client", "other"]), Unauthorized, "token_malformed"),
    "ended": (token(exp=NOW - 60), Unauthorized, "token_expired"),
    "no end": (token(exp=None), Unauthorized, "token_malformed"),
    "end as text": (token(exp="never"), Unauthorized, "token_malformed"),
    "not yet": (token(nbf=NOW + 61), Unauthorized, "token_not_yet_valid"),
    "no client": (token(azp=None), Unauthorized, "token_malformed"),
    "no roles": (token(roles=None), Forbidden, "role_missing"),
    "other role": (token(roles=["Mail.Read"]), Forbidden, "role_missing"),
    "a user's": (token(roles=None, scp="Mail.Send"), Forbidden, "token_delegated"),
    "a user's with a role": (token(scp="Mail.Send"), Forbidden, "token_delegated"),
    "a user's by idtyp": (token(idtyp="user"), Forbidden, "token_delegated"),
    "unknown client": (token(azp="bbbbbbbb-bbbb-cccc-dddd-eeeeeeeeeeee"), Forbidden, "caller_unknown"),
    "three words": ("a.b.c", Unauthorized, "token_malformed"),
    "one word": ("secret", Unauthorized, "token_malformed"),
    "too long": ("a" * 20_000, Unauthorized, "token_malformed"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_each_check_fails_by_itself(house: House, name: str) -> None:
    """A token wrong in one part is refused with the code of that part, and the token stands in no message."""
    value, kind, code = WRONG[name]
    error = await house.refused(f"Bearer {value}")
    assert (type(error), error.code) == (kind, code)
    assert value not in str(error)


@pytest.mark.parametrize("header", [None, "", "Basic dXNlcjpwYXNz", "Bearer", "Bearer a b"])
async def test_without_a_token_it_is_401(house: House, header: str | None) -> None:
    """No header, another scheme, or nothing behind it."""
    error = await house.refused(header)
    assert (error.status, error.code) == (401, "token_missing")


async def test_an_unsigned_token_is_refused(house: House) -> None:
    """alg none, with and without a signature."""
    head = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": KEY.kid}).encode()).rstrip(b"=").decode()
    body, signature = token().split(".")[1:]
    for value in (f"{head}.{body}.", f"{head}.{body}.{signature}"):
        assert (await house.refused(f"Bearer {value}")).code in {"token_malformed", "token_signature"}


async def test_a_clock_may_be_a_minute_off(house: House) -> None:
    """Neither end is taken to the second."""
    assert await house.admit(token(exp=NOW - 59, nbf=NOW + 59))


async def test_each_operation_has_its_role(house: House) -> None:
    """Mail.Send sends, Mail.Read reads, Mail.Manage manages; and the file must allow the operation too."""
    both = token(roles=["Mail.Read", "Mail.Manage"])
    assert await house.admit(both, "read") == SHOP
    assert (await house.refused(f"Bearer {both}", "send")).code == "role_missing"
    assert (await house.refused(f"Bearer {both}", "manage")).code == "operation_not_allowed"


async def test_a_caller_has_its_accounts(house: House) -> None:
    """What the file does not give it is refused, and a star is every account."""
    house.gate.allow(SHOP, "billing")
    with pytest.raises(Forbidden) as raised:
        house.gate.allow(SHOP, "support")
    assert (raised.value.code, raised.value.status) == ("account_not_allowed", 403)
    house.gate.allow(Caller("all", CLIENT, frozenset({"*"}), frozenset({"send"})), "support")


@pytest.mark.parametrize("conf", [settings(api=None), settings(callers={})])
async def test_nobody_configured_is_closed(conf: Settings) -> None:
    """Without [api] or without callers nobody comes in, with the best of tokens, and nobody is asked."""
    house = House(conf)
    assert (await house.refused(f"Bearer {token()}")).code == "gate_closed"
    assert (await house.refused(None)).code == "gate_closed"
    assert not house.authority.asked


async def test_a_checked_token_is_remembered_until_it_ends(house: House) -> None:
    """It is not proven again, and at its end it is refused as ended."""
    value = token()
    assert await house.admit(value)
    house.authority.keys = [STRANGER]
    house.monotonic += 10 * 86400
    assert await house.admit(value)
    house.now += 3600 + 59
    assert await house.admit(value)
    house.authority.keys = [KEY]
    house.now += 1
    assert (await house.refused(f"Bearer {value}")).code == "token_expired"


async def test_what_is_remembered_is_bounded() -> None:
    """The least recently proven goes first."""
    house = House(remembered=2)
    for number in range(3):
        await house.admit(token(uti=str(number)))
    house.authority.keys, house.monotonic = [STRANGER], 100 * 86400.0
    for number in (2, 1):
        assert await house.admit(token(uti=str(number)))
    assert (await house.refused(f"Bearer {token(uti='0')}")).code == "token_signature"


async def test_keys_are_read_once_a_day(house: House) -> None:
    """Many tokens, many at once, make one reading; the next day makes another."""
    await asyncio.gather(*(house.admit(token(uti=str(number))) for number in range(5)))
    assert len(house.authority.asked) == 2
    house.monotonic += 86399
    await house.admit(token(uti="a"))
    assert len(house.authority.asked) == 2
    house.monotonic += 1
    await house.admit(token(uti="b"))
    assert len(house.authority.asked) == 4


async def test_a_new_key_is_found_and_unknown_ones_do_not_hammer(house: House) -> None:
    """An unknown key makes us read again, once a minute and no more, whoever sends it."""
    await house.admit(token())
    house.monotonic += 61
    house.authority.keys.append(STRANGER)
    assert await house.admit(token(STRANGER))
    for number in range(5):
        assert (await house.refused(f"Bearer {token(STRANGER, {'kid': f'k{number}'})}")).code == "token_signature"
    assert len(house.authority.asked) == 4


DOWN: dict[str, dict[str, Any]] = {
    "unreachable": {"status": 0},
    "throttled": {"status": 429},
    "broken": {"status": 503},
    "no tenant": {"status": 400, "body": b'{"error": "invalid_tenant"}'},
    "garbage": {"body": b"\x00not json"},
    "a page": {"body": b"<html></html>"},
    "other issuer": {"metadata": {"issuer": ISSUER.replace(TENANT, OTHER_TENANT)}},
    "no issuer of a tenant": {"metadata": {"issuer": f"{LOGIN}/common/v2.0"}},
    "issuer elsewhere": {"metadata": {"issuer": f"https://evil.example/{TENANT}/v2.0"}},
    "keys elsewhere": {"metadata": {"jwks_uri": "https://evil.example/keys"}},
    "keys in the clear": {"metadata": {"jwks_uri": "http://login.example/keys"}},
}


@pytest.mark.parametrize("name", DOWN)
async def test_without_keys_nobody_can_say(house: House, name: str) -> None:
    """Where the authority gives no keys that we may trust, the answer is 503, not 401; a moment later it is asked again."""
    for attribute, value in DOWN[name].items():
        setattr(house.authority, attribute, value)
    error = await house.refused(f"Bearer {token()}")
    assert isinstance(error, AuthorityDown)
    assert error.status == 503
    asked = len(house.authority.asked)
    await house.refused(f"Bearer {token()}")
    assert len(house.authority.asked) == asked
    house.authority.status, house.authority.body, house.authority.metadata = 200, None, {}
    house.monotonic += 5
    assert await house.admit(token())


async def test_known_keys_outlive_a_failure(house: House) -> None:
    """When the daily reading fails, tokens of known keys are still good; of unknown keys nobody can say."""
    await house.admit(token())
    house.monotonic += 86400
    house.authority.status = 503
    assert await house.admit(token(uti="new"))
    assert isinstance(await house.refused(f"Bearer {token(STRANGER)}"), AuthorityDown)


async def test_keys_of_another_tenant_sign_nothing_here(house: House) -> None:
    """A key that is published for another issuer is not ours, though it stands in our document."""
    house.authority.key_issuer = f"{LOGIN}/{OTHER_TENANT}/v2.0"
    assert (await house.refused(f"Bearer {token()}")).code == "token_signature"


async def test_keys_may_name_no_issuer() -> None:
    """Nor need the configured tenant be a GUID: the issuer says which one it is."""
    house = House(settings(Api("x.example", API.audiences, CLOUD)))
    house.authority.key_issuer = None
    assert await house.admit(token())
    assert house.authority.asked[0] == f"{LOGIN}/x.example/v2.0/.well-known/openid-configuration"


GOOD = token()
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@given(at=st.integers(0, len(GOOD) - 1), other=st.sampled_from(_ALPHABET + "+/=.\x00 é"))
def test_no_changed_token_passes(at: int, other: str) -> None:
    """One character of a good token changed, anywhere, to anything: refused."""
    assume(GOOD[at] != other)
    _refused(GOOD[:at] + other + GOOD[at + 1 :])


@given(at=st.integers(1, len(GOOD) - 1), more=st.text(_ALPHABET, min_size=1, max_size=5))
def test_no_token_cut_or_stretched_passes(at: int, more: str) -> None:
    """Cut anywhere, or with more in it anywhere: refused."""
    _refused(GOOD[:at])
    _refused(GOOD[:at] + more + GOOD[at:])
    _refused(GOOD + more)


def _refused(value: str) -> None:
    async def attempt() -> None:
        house = House()
        with pytest.raises((Unauthorized, Forbidden)):
            await house.admit(value)

    asyncio.run(attempt())
