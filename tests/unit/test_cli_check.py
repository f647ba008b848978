"""`mailroom check` against an account whose services answer as told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec

from cli import check
from cli.line import Line
from mailroom.errors import (
    AuthorityRefused,
    BadSettings,
    DeliveryInDoubt,
    MailroomError,
    NotSent,
    ProviderError,
    Refused,
    VaultRefused,
)
from mailroom.model.account import AT_ONCE, Account, Cloud, Profile
from mailroom.model.certificate import Certificate, PublicCertificate
from mailroom.model.message import Message, Outgoing, Receipt
from mailroom.model.page import Arrival, Page
from mailroom.model.token import Token
from mailroom.providers import gmail, graph, relay, smtp

SECRET = "never-to-be-shown"
CLOUD = Cloud("https://login.example", "https://graph.example/v1.0", "scope", "vault", "storage")
PROFILE = Profile("office", "client_credentials", "tenant-id", "client-id", CLOUD, certificate="graph")
ACCOUNT = Account("billing", "graph", "billing@example.com", PROFILE, receive=True, traits=graph.TRAITS)


@dataclass
class House:
    """Every service of one account; what is an error is raised."""

    ends: timedelta = timedelta(days=200)
    secret_error: MailroomError | None = None
    certificate_error: MailroomError | None = None
    token_error: MailroomError | None = None
    ask_error: MailroomError | None = None
    page_error: MailroomError | None = None
    draft_error: MailroomError | None = None
    drafts: int = 0
    answer: Receipt | ProviderError = field(default_factory=lambda: Receipt("sendMail", request_id="r-1"))
    sent: list[Outgoing] = field(default_factory=list)
    looks: int = 0
    found_after: int = 2  # looks for each mail
    hidden: Callable[[Outgoing], bool] = lambda mail: False  # who looks does not see it
    slept: float = 0.0

    async def sleep(self, seconds: float) -> None:
        self.slept += seconds

    def vault(self) -> House:
        return self

    certificates = vault

    def credential(self, profile: Profile) -> _Credential:
        return _Credential(self)

    def scope(self, account: Account) -> str:
        return account.profile.cloud.graph_scope

    def sender(self, account: Account) -> _Provider:
        return _Provider(self)

    inbox = sender

    async def secret(self, name: str, *, fresh: bool = False) -> str:
        if self.secret_error:
            raise self.secret_error
        return SECRET

    async def certificate(self, name: str) -> Certificate:
        if self.certificate_error:
            raise self.certificate_error
        now = datetime.now(UTC)
        return Certificate(SECRET.encode(), b"pem", "ab12", "cd34", now, now + self.ends, "v1")

    async def public_certificate(self, name: str, version: str = "") -> PublicCertificate:
        now = datetime.now(UTC)
        return PublicCertificate(name, "v1", b"der", "ab12", "cd34", now, now + self.ends)


@dataclass
class _Credential:
    house: House

    async def ask(self, scope: str) -> Token:
        if self.house.token_error:
            raise self.house.token_error
        return Token(SECRET, datetime.now(UTC).timestamp() + 3600)


@dataclass
class _Provider:
    house: House

    def check(self, message: Message) -> None:
        return None

    def admit(self, account: Account, message: Message) -> None:
        return None

    async def prepare(self, account: Account, mail: Outgoing, token: Token) -> Outgoing | Receipt | ProviderError:
        raise AssertionError("a check uploads nothing")

    async def rehearse(self, account: Account, token: Token) -> None:
        self.house.drafts += 1
        if self.house.draft_error:
            raise self.house.draft_error

    async def send(
        self, account: Account, mails: Sequence[Outgoing], token: Token, at_once: int = AT_ONCE
    ) -> list[Receipt | ProviderError]:
        self.house.sent += mails
        return [self.house.answer]

    async def ask(self, account: Account, mails: Sequence[Outgoing], token: Token, at_once: int = AT_ONCE) -> list[Receipt | None]:
        if self.house.ask_error:
            raise self.house.ask_error
        self.house.looks += 1
        if self.house.looks % 3 == 0:
            raise DeliveryInDoubt("still_a_draft", "Graph made a draft of the mail.")
        there = mails[0] in self.house.sent and not self.house.hidden(mails[0])
        return [Receipt("found") if there and self.house.looks >= self.house.found_after else None]

    async def page(self, account: Account, link: str | None, token: Token, *, ids_only: bool = False, since: float = 0.0) -> Page:
        if self.house.page_error:
            raise self.house.page_error
        return Page((Arrival("1", datetime.now(UTC)),), "next", last=False)


async def lines(house: House, account: Account = ACCOUNT, send_to: str | None = None) -> dict[str, Line]:
    found = [line async for line in check.run(account, house, send_to=send_to, sleep=house.sleep)]  # type: ignore[arg-type]  # fakes play several ports
    assert SECRET not in "\n".join(map(str, found))
    return {line.what: line for line in found}


async def test_a_sound_account_passes_every_step() -> None:
    """Settings, certificate, token, the search for a stamp, the inbox and a mail: each has its line, and none shows a secret."""
    house = House()
    found = await lines(house, send_to="ann@example.com")
    assert {what: line.ok for what, line in found.items()} == dict.fromkeys(
        ["settings", "certificate", "token", "asking", "inbox", "test mail", "test found", "mime mail", "mime found"], True
    )
    assert [(mail.message.to[0].address, mail.message.needs_mime) for mail in house.sent] == [
        ("ann@example.com", False),
        ("ann@example.com", True),
    ]


async def test_nothing_is_sent_unasked() -> None:
    """Without an address for it there is no mail, and the line says what that leaves unproven."""
    house = House()
    line = (await lines(house))["test mail"]
    assert line.ok is None
    assert "Mail.Send is not proven" in line.said
    assert not house.sent


async def test_without_a_token_the_rest_is_said_to_be_unchecked() -> None:
    """What the authority refused stands there with its next step, and what could not be tried is no success."""
    house = House(token_error=AuthorityRefused("secret_wrong", "AADSTS7000215: wrong secret.", "Set the secret's value, not its id."))
    found = await lines(house, send_to="ann@example.com")
    assert found["token"].ok is False
    assert "→ Set the secret's value, not its id." in str(found["token"])
    assert [found[what].ok for what in ("asking", "inbox", "test mail")] == [None] * 3
    assert not house.sent


async def test_a_failing_step_does_not_hide_the_others() -> None:
    """Each permission is proven by itself: an inbox that is closed says nothing of sending."""
    house = House(
        certificate_error=VaultRefused("certificate_expired", "graph ended.", "Make a new version."),
        ask_error=NotSent("access_denied", "403 ErrorAccessDenied.", "Grant Mail.Read."),
        page_error=NotSent("access_denied", "403 ErrorAccessDenied.", "Grant Mail.Read."),
    )
    found = await lines(house, send_to="ann@example.com")
    assert [found[what].ok for what in ("certificate", "asking", "inbox")] == [False] * 3
    assert found["token"].ok is True
    assert found["test mail"].ok is True


async def test_every_failing_line_says_what_to_do() -> None:
    """Also where the error has no advice of its own."""
    why = NotSent("provider_failed", "Graph answered 405.")
    house = House(certificate_error=VaultRefused("vault_refused", "No."), ask_error=why, page_error=why, answer=Refused("refused", "No."))
    found = await lines(house, send_to="ann@example.com")
    wrong = ["certificate", "asking", "inbox", "test mail", "mime mail"]
    assert [what for what, line in found.items() if line.ok is False] == wrong
    assert all(line.todo for line in found.values() if line.ok is False)
    no_token = House(token_error=AuthorityRefused("authority_refused", "No."))
    assert (await lines(no_token))["token"].todo


async def test_a_refused_mail_is_a_failure() -> None:
    """The provider's no is shown with its code."""
    found = await lines(House(answer=Refused("recipient_invalid", "No such address.", "Correct it.")), send_to="ann@example.com")
    assert found["test mail"].ok is False
    assert "recipient_invalid" in found["test mail"].said


async def test_an_account_that_may_only_send_is_not_blamed() -> None:
    """With Mail.Send alone the inbox and the question are no failures, and what a lost answer then means is said."""
    account = msgspec.structs.replace(ACCOUNT, permissions=frozenset({"Mail.Send"}))
    found = await lines(House(), account)
    assert [found[what].ok for what in ("asking", "inbox")] == [None, None]
    assert "a person decides" in found["asking"].said


async def test_a_certificate_near_its_end_comes_with_advice() -> None:
    """It still works, and the line says what to do before it does not."""
    line = (await lines(House(ends=timedelta(days=9))))["certificate"]
    assert line.ok is True
    assert "register it" in line.todo


async def test_a_secret_is_only_said_to_be_there() -> None:
    """A profile that signs in with a secret has it looked up in the vault, and never shown."""
    profile = msgspec.structs.replace(PROFILE, certificate=None, secret="graph-secret")
    account = msgspec.structs.replace(ACCOUNT, profile=profile)
    assert (await lines(House(), account))["secret"].ok is True
    missing = House(secret_error=VaultRefused("vault_secret_missing", "There is no secret graph-secret.", "Set it."))
    assert (await lines(missing, account))["secret"].ok is False


async def test_a_key_that_stays_in_the_vault_is_not_asked_for() -> None:
    """Its certificate is looked at, its key by nobody; without anything in the vault there is nothing to look at."""
    stays = msgspec.structs.replace(ACCOUNT, profile=msgspec.structs.replace(PROFILE, options=(("key", "vault"),)))
    unread = House(certificate_error=VaultRefused("certificate_key_missing", "No key.", "Make it exportable."))
    line = (await lines(unread, stays))["certificate"]
    assert (line.ok, "its key stays" in line.said) == (True, True)
    federated = msgspec.structs.replace(PROFILE, certificate=None, options=(("federated", "managed_identity"),))
    line = (await lines(unread, msgspec.structs.replace(ACCOUNT, profile=federated)))["vault"]
    assert (line.ok, "nothing" in line.said) == (None, True)


def test_wrong_settings_are_listed_one_by_one() -> None:
    """Every mistake of accounts.toml has a line of its own."""
    text = str(check.settings_wrong(BadSettings(["accounts.a.rate: 'x'; a number", "auth.b: missing"])))
    assert "accounts.a.rate: 'x'; a number\n  auth.b: missing" in text


def test_the_verdict_counts_what_was_not_checked() -> None:
    """A step that was left out is never counted as passed."""
    assert check.verdict(0, 1) == "Nothing failed. 1 not checked."
    assert check.verdict(2, 0) == "2 failed."


async def test_a_relay_has_no_sign_in_to_check() -> None:
    """No token is asked for or told of, and what can't be asked is said to be so."""
    account = Account("bulk", "relay", "a@x.example", Profile("", "none", "", "", CLOUD), permissions=frozenset(), traits=relay.TRAITS)
    found = await lines(House(), account, send_to="ann@example.com")
    assert found["settings"].said == "relay needs no sign-in"
    assert "token" not in found
    assert found["asking"].said.startswith("not checked: relay only sends, and can't be asked, so")
    assert found["test mail"].ok


async def test_who_may_look_at_what_went_by_smtp() -> None:
    """The other sign-in is tried with a question; a mailbox that only sends has no inbox to look at all the same."""
    side = msgspec.structs.replace(ACCOUNT, permissions=frozenset({"Mail.Read"}))
    account = msgspec.structs.replace(ACCOUNT, provider="smtp", permissions=frozenset(), traits=smtp.TRAITS, asked=side)
    found = await lines(House(), account)
    assert found["asking"] == Line(True, "asking", "sent mail can be searched through graph, so a lost answer is no lost mail")
    assert found["inbox"].ok is None
    found = await lines(House(ask_error=NotSent("access_denied", "403", "Grant it.")), account)
    assert (found["asking"].ok, found["asking"].todo) == (False, "Grant it.")


async def test_what_is_never_found_must_not_be_asked_for() -> None:
    """Sent, and looked for in vain: each kind says which setting has `in_doubt` decide, for else a lost answer means a second mail."""
    house = House(hidden=lambda mail: mail.message.needs_mime)
    found = await lines(house, send_to="ann@example.com")
    assert (found["test found"].ok, found["mime mail"].ok, found["mime found"].ok) == (True, True, False)
    assert "ask_mime = false" in found["mime found"].todo
    assert 100 <= house.slept <= 300
    found = await lines(House(hidden=lambda mail: True), send_to="ann@example.com")
    assert (found["test found"].ok, "`permissions`" in found["test found"].todo) == (False, True)
    side = msgspec.structs.replace(ACCOUNT, permissions=frozenset({"Mail.Read"}))
    account = msgspec.structs.replace(ACCOUNT, provider="smtp", permissions=frozenset(), traits=smtp.TRAITS, asked=side)
    found = await lines(House(hidden=lambda mail: mail.in_header), account, send_to="ann@example.com")
    assert (found["test found"].ok, "ask_auth" in found["test found"].todo, "mime mail" in found) == (False, True, False)


async def test_what_is_not_asked_for_is_not_looked_for() -> None:
    """Where the account says that MIME can't be asked for there is no mail to try it, nor where nobody may look."""
    house = House()
    found = await lines(house, msgspec.structs.replace(ACCOUNT, ask_mime=False), send_to="ann@example.com")
    assert ("test found" in found, "mime mail" in found, len(house.sent)) == (True, False, 1)
    house = House()
    found = await lines(house, msgspec.structs.replace(ACCOUNT, permissions=frozenset({"Mail.Send"})), send_to="ann@example.com")
    assert ("test found" in found, "mime mail" in found, len(house.sent)) == (False, False, 1)


async def test_the_certificate_that_a_relay_wants_to_see() -> None:
    """It is looked at in the vault, and one that is missing is told before any mail is sent."""
    account = Account(
        "bulk",
        "relay",
        "a@x.example",
        Profile("", "none", "", "", CLOUD),
        permissions=frozenset(),
        traits=relay.TRAITS,
        options=(("client_certificate", "shown"), ("host", "relay.example")),
    )
    assert (await lines(House(), account))["certificate"].said.startswith("shown is in the vault")
    gone = House(certificate_error=VaultRefused("vault_certificate_missing", "There is no certificate 'shown' in the vault.", "Create it."))
    found = (await lines(gone, account))["certificate"]
    assert (found.ok, found.todo) == (False, "Create it.")


async def test_a_mailbox_at_google() -> None:
    """It is told by what Google knows: no tenant and no client, whom it signs in for, and its own permissions' names."""
    profile = Profile("workspace", "jwt_bearer", "", "", CLOUD, secret="gmail-key", subject="a@x.example")
    account = Account("a", "gmail", "a@x.example", profile, permissions=frozenset({"gmail.send"}), traits=gmail.TRAITS)
    said = {what: line.said for what, line in (await lines(House(), account)).items()}
    assert said["settings"] == "[auth.workspace] signs in by jwt_bearer for a@x.example"
    assert "gmail.readonly" in said["asking"]
    assert "gmail.readonly" in said["inbox"]
    assert "gmail.send is not proven" in said["test mail"]


async def test_a_login_that_is_missing_says_which_command() -> None:
    """A refresh token that is not in the vault yet is nobody's to create by hand."""
    profile = msgspec.structs.replace(PROFILE, certificate=None, grant="refresh_token", options=(("refresh_token_secret", "token"),))
    missing = House(secret_error=VaultRefused("vault_secret_missing", "There is no secret token.", "Create it."))
    line = (await lines(missing, msgspec.structs.replace(ACCOUNT, profile=profile)))["secret"]
    assert (line.ok, "mailroom login" in line.todo) == (False, True)


LARGE = msgspec.structs.replace(ACCOUNT, traits=graph.TRAITS, permissions=frozenset({"Mail.Send", "Mail.ReadWrite"}))


async def test_the_permission_for_large_mails_is_proven_by_a_draft() -> None:
    """Only where it is declared, only where a mail may be sent at all, and a refusal says what to grant."""
    house = House()
    assert (await lines(house, LARGE, send_to="ann@example.com"))["large mail"].ok is True
    assert house.drafts == 1
    failing = House(draft_error=NotSent("access_denied", "403 ErrorAccessDenied.", "Grant the app Mail.ReadWrite."))
    line = (await lines(failing, LARGE, send_to="ann@example.com"))["large mail"]
    assert (line.ok, line.todo) == (False, "Grant the app Mail.ReadWrite.")
    unasked = House()
    line = (await lines(unasked, LARGE))["large mail"]
    assert (line.ok, unasked.drafts) == (None, 0)
    assert "Mail.ReadWrite is not proven" in line.said
    small = msgspec.structs.replace(LARGE, permissions=frozenset({"Mail.Send", "Mail.Read"}))
    assert "large mail" not in await lines(House(), small, send_to="ann@example.com")
