"""No secret and no body of a mail where it does not belong: each way to sign in and to send, well and badly, then a search of all."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import html
import json
import re
import secrets
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key, pkcs12

from sandbox import smtp as sandbox_smtp
from sandbox.accounts import Pace, accounts_toml
from sandbox.azurite import Azurite
from sandbox.directory import API, GRAPH, OUTLOOK, App
from sandbox.functions import environment
from sandbox.graph import create as create_graph
from sandbox.services import CERTIFICATE, CUSTOMER, GOOGLE_KEY, ORDERS, REPORTS, ROBOT
from sandbox.signing import SigningKeys
from sandbox.users import Session, User
from tests.journey import canary
from tests.journey.canary import Canaries
from tests.journey.own_town import EVERY_SECOND, Functions, OwnTown, new_subject, own_town
from tests.journey.test_google import PROVIDER, trust_the_identity
from tests.journey.test_signing_in import POLICY, STAYS
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

ROOT = Path(__file__).resolve().parents[2]
PACE = Pace(sweep=EVERY_SECOND, sync=EVERY_SECOND, refresh=EVERY_SECOND, claim=8, call=3, grace=1)
BODY = "the body of a mail"
WORKING = ("secret", "vault", "federated", "identity", "eva", "paul", "keyless", "p12", "uploaded", "signed", "relayed")
FAILING = ("wrong", "fred", "pat", "gone", "bulk")


@dataclass(slots=True)
class Remembering(SigningKeys):
    """The tenant's keys; what they signed is known afterwards."""

    signed: list[str] = field(default_factory=list)

    def sign(self, claims: Mapping[str, Any]) -> str:
        token = SigningKeys.sign(self, claims)
        self.signed.append(token)
        return token


@dataclass
class Place:
    """`heard` is what callers and people at the command line were answered."""

    town: OwnTown
    storage: Azurite
    canaries: Canaries
    accounts: str = ""
    heard: list[str] = field(default_factory=list)

    @property
    def services(self) -> Any:
        return dataclasses.replace(self.town.services, storage=self.storage.connection_string)

    @asynccontextmanager
    async def functions(self) -> AsyncIterator[Functions]:
        async with self.town.functions(PACE, where=self.services, more=self.accounts) as running:
            running.http.event_hooks = {"response": [self._hear]}
            yield running

    async def _hear(self, answer: httpx.Response) -> None:
        await answer.aread()
        if answer.request.url.path.endswith("/attachments"):  # the caller's own link: its place
            self.canaries.add("an upload link", *parse_qs(urlsplit(answer.json()["url"]).query)["sig"])
            return
        self.heard.append(f"{answer.headers!r}{answer.text}")

    def body(self) -> str:
        """Of a mail of its own."""
        text = f"canary {secrets.token_hex(16)}"
        self.canaries.add(BODY, text)
        return text

    def mail(self, account: str, /, **more: Any) -> dict[str, Any]:
        mail = {"account": account, "to": [CUSTOMER], "subject": new_subject(), "text": self.body(), "html": f"<p>{self.body()}</p>"}
        return mail | more

    async def mailroom(self, *arguments: str | Path, code_of: User | None = None) -> int:
        """Its exit status, after whatever it said; `code_of` enters the code that it prints first."""
        path = self.town.folder / "people.toml"
        path.write_text(accounts_toml(self.services, PACE) + self.accounts, "utf-8")
        env = environment(self.services, path) | {"PYTHONUTF8": "1"}
        command = [sys.executable, "-m", "cli.main", *map(str, arguments)]
        process: Process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=env, stdout=PIPE, stderr=PIPE)
        async with asyncio.timeout(120):
            if code_of is not None and process.stdout is not None:
                self.heard.append((await process.stdout.readline()).decode())
                await self._enter(self.heard[-1], code_of)
            self.heard += [said.decode() for said in await process.communicate()]
        return process.returncode or 0

    async def _enter(self, message: str, user: User) -> None:
        url, code = re.search(r"open the page (\S+) and enter the code (\w+)", message).groups()  # type: ignore[union-attr]
        page = (await self.town.http.get(url)).text
        action = html.unescape(re.search(r'action="([^"]*)"', page)[1])  # type: ignore[index]
        typed = {"user_code": code, "username": user.address, "password": user.password, "answer": "yes"}
        (await self.town.http.post(str(httpx.URL(url).join(action)), data=typed)).raise_for_status()

    def secret(self, name: str, value: str, what: str) -> None:
        self.town.services.vault_contents.set_secret(name, value)
        self.canaries.add(what, value)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    folder = tmp_path_factory.mktemp("canary")
    (folder / "storage").mkdir()
    async with own_town(folder) as town, Azurite(folder / "storage") as storage:
        directory = town.services.directory
        directory.keys = Remembering(now=lambda: directory.now())
        made = Place(town, storage, Canaries())
        shown = town.services.vault_contents.create_certificate("relay")
        made.canaries.add("the key of a certificate that is shown", *canary.of_key(shown.key))
        relay = await _relay(town, shown.certificate.public_bytes(Encoding.PEM).decode())
        made.accounts = "".join(_accounts(made, relay.port))
        yield made
        await relay.stop()


async def _relay(town: OwnTown, client: str) -> sandbox_smtp.Listening:
    """A connector that knows its clients by their certificate."""
    directory, faults = town.services.directory, town.services.faults
    office = create_graph(directory, faults).office
    return await sandbox_smtp.serve(directory, faults, office, town.services.ca, clients=client, signs_in=False)


def _accounts(place: Place, relay: int) -> list[str]:
    """TOML of every way to sign in and to send: such as work, and such as do not."""
    town, directory = place.town, place.town.services.directory
    _secrets(place)
    app = directory.register(App("no-secret", app_roles={GRAPH: ["Mail.Send", "Mail.Read"]}))
    identity, desktop = directory.app("mailroom-identity"), directory.app("desktop")
    identity.app_roles[GRAPH] = ["Mail.Send", "Mail.Read"]
    directory.trust(app, identity)
    stays = town.services.vault_contents.create_certificate(STAYS, POLICY)
    directory.register_certificate(app.client_id, stays.certificate.public_bytes(Encoding.DER))
    place.canaries.add("a key that stays in the vault", *canary.of_key(stays.key))
    directory.mailboxes |= {f"{name}@contoso.example" for name in WORKING + FAILING}
    trust_the_identity(town)
    at_google = {name: ("gmail", f"{name}@northwind.example") for name in ("p12", "uploaded", "signed")}
    town.services.google.workspace.mailboxes |= {address for _, address in at_google.values()}
    for name in ("uploaded", "signed"):
        kept = town.services.vault_contents.create_certificate(f"google-{name}", POLICY if name == "signed" else None)
        town.services.google.workspace.accounts[ROBOT].register(kept.key.public_key())
        place.canaries.add("a key whose public part is at Google", *canary.of_key(kept.key))
    graph, tenant = directory.app("graph").client_id, f'tenant = "{directory.tenant}"'
    by_app = f'grant = "client_credentials"\n{tenant}\nclient_id = "{graph}"'
    without = f'grant = "client_credentials"\n{tenant}\nclient_id = "{app.client_id}"'
    by_user = f'{tenant}\nclient_id = "{desktop.client_id}"'
    profiles = {
        "secret": f'{by_app}\nsecret = "graph-secret"',
        "wrong": f'{by_app}\nsecret = "wrong-secret"',
        "gone": f'{by_app}\nsecret = "no-such-secret"',
        "vault": f'{without}\ncertificate = "{STAYS}"\nkey = "vault"',
        "federated": f'{without}\nfederated = "managed_identity"',
        "identity": 'grant = "managed_identity"',
        "eva": f'grant = "refresh_token"\n{by_user}\nrefresh_token_secret = "eva-token"',
        "fred": f'grant = "refresh_token"\n{by_user}\nrefresh_token_secret = "fred-token"',
        "paul": f'grant = "password"\n{by_user}\nusername = "paul@contoso.example"\npassword_secret = "paul-password"',
        "pat": f'grant = "password"\n{by_user}\nusername = "pat@contoso.example"\npassword_secret = "pat-password"',
        "keyless": f'grant = "workload_identity"\nservice_account = "{ROBOT}"\nworkload_provider = "{PROVIDER}"',
        "p12": f'grant = "jwt_bearer"\nsecret = "google-p12"\nservice_account = "{ROBOT}"\npassword_secret = "p12-password"',
        "uploaded": f'grant = "jwt_bearer"\ncertificate = "google-uploaded"\nservice_account = "{ROBOT}"',
        "signed": f'grant = "jwt_bearer"\ncertificate = "google-signed"\nkey = "vault"\nservice_account = "{ROBOT}"',
    }
    accounts = {
        **{name: ("graph", f"{name}@contoso.example") for name in profiles},
        **{name: ("smtp", f"{name}@contoso.example") for name in ("paul", "pat")},
        "keyless": ("gmail", "news@northwind.example"),
        **at_google,
    }
    host = town.services.smtp.removeprefix("smtp://")
    blocks = [f"\n[auth.{name}]\n{profile}\n" for name, profile in profiles.items()]
    blocks += [
        f'\n[accounts.{name}]\nprovider = "{provider}"\naddress = "{address}"\nauth = "{name}"\nrate = 6000\n'
        for name, (provider, address) in accounts.items()
    ]
    relays = {"bulk": f'host = "{host}"', "relayed": f'host = "localhost:{relay}"\nclient_certificate = "relay"'}
    blocks += [f'\n[accounts.{name}]\nprovider = "relay"\naddress = "{name}@contoso.example"\n{own}\n' for name, own in relays.items()]
    return blocks


def _secrets(place: Place) -> None:
    """In the vault, and known to the search."""
    town, canaries, directory = place.town, place.canaries, place.town.services.directory
    canaries.add("a client secret", *(secret for app in directory.apps.values() for secret in app.secrets))
    place.secret("graph-secret", directory.app("graph").secret, "a client secret")
    place.secret("wrong-secret", secrets.token_urlsafe(30), "a wrong client secret")
    desktop = directory.app("desktop")
    desktop.delegated = {GRAPH: {"Mail.Send", "Mail.Read"}, OUTLOOK: {"SMTP.Send"}}
    people = {name: directory.add_user(User(f"{name}@contoso.example")) for name in ("eva", "paul", "pat")}
    place.secret("paul-password", people["paul"].password, "a password")
    place.secret("pat-password", secrets.token_urlsafe(15), "a wrong password")
    session = Session(people["eva"], desktop.client_id, False, directory.now())
    place.secret("eva-token", directory.delegations.begin(session), "a refresh token")
    place.secret("fred-token", f"1.{secrets.token_urlsafe(60)}", "a refresh token that was revoked")
    robot = town.services.google.workspace.accounts[ROBOT]
    place.secret("p12-password", "a password of a .p12", "a keystore's password")
    p12 = robot.new_p12_key("a password of a .p12")
    place.secret("google-p12", base64.b64encode(p12).decode(), "a .p12")
    canaries.add("a .p12", p12[100:140])
    [google] = town.services.vault_contents.secrets.versions(GOOGLE_KEY)
    key = load_pem_private_key(json.loads(google.value)["private_key"].encode(), None)
    canaries.add("a service account's key", *canary.of_key(key))  # type: ignore[arg-type]  # Google's are RSA
    [certificate] = town.services.vault_contents.certificates.versions(CERTIFICATE)
    canaries.add("a certificate's key", *canary.of_key(certificate.key))
    canaries.add("the identity endpoint's header", town.services.identity_header)
    canaries.add("storage's key", town.services.storage.partition("AccountKey=")[2].partition(";")[0])


async def test_no_secret_leaves_its_place(place: Place) -> None:
    """Each way as it should go, then with what goes wrong on the way; in the end every log line, answer, row, message and blob is read."""
    async with place.functions() as functions:
        await _all_is_well(place, functions)
        await _callers_err(place, functions)
        await _others_fail(place, functions)
        await _storage_fails(place, functions)
    await _people_at_the_terminal(place)
    await place.storage.stop()  # what it holds in memory is on the disk then
    _gathered(place)
    stored = canary.files(place.town.folder / "storage")
    told = {"log": (place.town.folder / "functions.log").read_bytes(), "answers": canary.joined(place.heard)}
    assert place.canaries.found(stored | told, lambda what: what != BODY) == set()
    rows = {name: text for name, text in stored.items() if "table" in name or "queue" in name}
    assert place.canaries.found(rows | told, lambda what: what == BODY) == set()
    _was_real(place, stored, told)


def _was_real(place: Place, stored: Mapping[str, bytes], told: Mapping[str, bytes]) -> None:
    """The ways were gone, and the search finds what does lie there: bodies, in blobs."""
    log = told["log"].decode()
    events = [json.loads(line[line.index("{") :]) for line in log.splitlines() if " mailroom: {" in line]
    sent = {event["account"] for event in events if event["event"] == "mail.sent"}
    assert sent >= {*WORKING, place.town.billing, ORDERS, REPORTS}
    told_of = {"token.rejected", "token.failed", "mail.throttled", "mail.received", "refresh_token.rotated"}
    assert {event["event"] for event in events} >= told_of
    assert {event["profile"] for event in events if event["event"] == "token.rejected"} >= {"wrong", "fred", "pat"}
    assert place.canaries.found(stored, lambda what: what == BODY)
    assert {"the body of a mail", "an access token", "a refresh token"} <= place.canaries.known.keys()


def _gathered(place: Place) -> None:
    """What came to be meanwhile: access tokens, callers' too, and refresh tokens that were rotated."""
    keys, workspace = place.town.services.directory.keys, place.town.services.google.workspace
    assert isinstance(keys, Remembering)
    place.canaries.add("an access token", *(token.rpartition(".")[2] for token in keys.signed), *workspace._tokens)
    place.canaries.add("a refresh token", *place.town.services.directory.delegations.refresh_tokens)


async def _all_is_well(place: Place, functions: Functions) -> None:
    town = place.town
    log = town.folder / "functions.log"
    await until(lambda: f'"sync.started", "account": "{town.billing}"' in log.read_text("utf-8"))
    await town.arrives(new_subject(), place.body())
    await until(lambda: '"mail.received"' in log.read_text("utf-8"))
    for account in (*WORKING, town.billing, ORDERS, REPORTS):
        answer = await functions.send(**place.mail(account))
        assert (await functions.settled(answer.json()["id"]))["status"] == "sent", answer.text
    for account in FAILING:
        answer = await functions.send(**place.mail(account))
        assert answer.json()["status"] == "pending", answer.text
    file = place.body().encode() * 90_000
    inline = [{"name": "a.txt", "content": base64.b64encode(place.body().encode()).decode()}]
    assert (await functions.send(**place.mail(town.billing, attachments=inline))).status_code == 202
    link = (await functions.http.post("attachments")).json()
    (await town.http.put(link["url"], content=file, headers=link["headers"])).raise_for_status()
    answer = await functions.send(**place.mail(town.billing, attachments=[{"name": "big.txt", "blob": link["blob"]}]))
    assert (await functions.settled(answer.json()["id"]))["path"] == "draft"
    mime = f"From: {town.billing}\r\nTo: {CUSTOMER}\r\nSubject: x\r\n\r\n{place.body()}\r\n"
    head = {"Content-Type": "message/rfc822"}
    assert (await functions.http.post("messages", params={"account": town.billing}, content=mime, headers=head)).status_code == 202
    lines = [place.mail(town.billing) for _ in range(3)] + [place.mail(town.billing, to=[])]
    assert (await functions.http.post("batches", params={"partial": "true"}, json=lines)).status_code == 202


async def _callers_err(place: Place, functions: Functions) -> None:
    """Mails that are refused at the door, whose answers say why; and callers that are."""
    town = place.town
    wrong = [{"to": ["nobody"]}, {"headers": {"Bcc": "x"}}, {"account": "nobody"}, {"unknown": 1}, {"text": 7}]
    for more in wrong:
        assert (await functions.send(**place.mail(town.billing, **more))).status_code == 400
    assert (await functions.http.post("messages", content=json.dumps(place.mail(town.billing))[:-1])).status_code == 400
    tokens = [
        town.bearer("graph", GRAPH),
        town.bearer("graph", API),
        {"Authorization": f"{town.bearer('caller', API)['Authorization'][:-4]}AAAA"},
    ]
    for head in tokens:
        answer = await functions.http.post("messages", json=place.mail(town.billing), headers=head)
        assert answer.status_code in (401, 403)
    assert (await functions.http.get(f"messages/{secrets.token_hex(8)}")).status_code == 404


async def _others_fail(place: Place, functions: Functions) -> None:
    """Each provider, the authorities and the vault, in each of the ways in which they can."""
    town, faults = place.town, place.town.services.faults
    directory, workspace = town.services.directory, town.services.google.workspace
    wrong = [("graph", one) for one in ("401", "403", "429", "504", "cut", "html", "garbage")]
    wrong += [("google", one) for one in ("401", "403", "429", "cut", "html")]
    for service, answer in wrong:
        path = "sendMail" if service == "graph" else "messages/send"
        faults.add({"service": service, "path": path, "answer": answer, "times": 1, "retry_after": 1})
        await functions.send(**place.mail(town.billing if service == "graph" else ORDERS))
    for path, answer in (
        ("auth", "535 5.7.3 Authentication unsuccessful"),
        ("auth", "cut"),
        ("end", "451 4.7.500 Server busy"),
        ("end", "cut"),
    ):
        faults.add({"service": "smtp", "path": path, "answer": answer, "times": 1})
        await functions.send(**place.mail("paul"))
    for service, answer in (
        ("entra", "429"),
        ("entra", "html"),
        ("entra", "401"),
        ("entra", "cut"),
        ("vault", "503"),
        ("vault", "403"),
        ("identity", "500"),
    ):
        faults.clear()
        for app in directory.apps.values():
            directory.revoke_all(app.client_id)
        workspace.revoke_all()
        faults.add({"service": service, "answer": answer, **({"path": "token"} if service == "entra" else {})})
        functions.http.headers.update(town.bearer("caller", API))
        await asyncio.gather(*(functions.send(**place.mail(account)) for account in (*WORKING, town.billing, ORDERS, REPORTS)))
    faults.clear()


async def _people_at_the_terminal(place: Place) -> None:
    """Accounts that work and such as do not, a login, and a key from a file on its way into the vault."""
    town = place.town
    assert [await place.mailroom("check", name, "--send-to", CUSTOMER) for name in ("secret", "paul", "signed", "relayed")] == [0] * 4
    assert [await place.mailroom("check", name, "--send-to", CUSTOMER) for name in ("wrong", "fred", "pat")] == [1] * 3
    fred = town.services.directory.add_user(User("fred@contoso.example"))
    place.canaries.add("a password", fred.password)
    assert await place.mailroom("login", "fred", "--device-code", code_of=fred) == 0
    assert await place.mailroom("login", town.billing) == 1
    town.services.directory.app("mailroom-identity").azure_roles.add("Key Vault Certificates Officer")
    keys = town.folder / "keys"
    assert await place.mailroom("certificate", "make", "own", "--local", keys, "--generate-password") == 0
    password = (keys / "own.password").read_text("utf-8").strip()
    key = pkcs12.load_pkcs12((keys / "own.pfx").read_bytes(), password.encode()).key
    place.canaries.add("a keystore's password", password)
    place.canaries.add("a key out of a file", *canary.of_key(key))  # type: ignore[arg-type]  # RSA, as made
    assert await place.mailroom("certificate", "import", keys / "own.pfx", "own", "--password-file", keys / "own.password") == 0
    assert await place.mailroom("certificate", "import", keys / "own.pem", "own", "--password-env", "SHELL") == 1
    assert await place.mailroom("certificate", "show", "own") == 0


async def _storage_fails(place: Place, functions: Functions) -> None:
    await place.storage.stop()
    answer = await functions.send(**place.mail(place.town.billing))
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_down")
    await place.storage.start()
    await until(lambda: _sends(place, functions), 60)


async def _sends(place: Place, functions: Functions) -> bool:
    await asyncio.sleep(0.2)
    return (await functions.send(**place.mail(place.town.billing))).is_success
