"""A mailbox that one provider sends from and another can be asked about: what was in doubt there is found, or goes again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from mailroom import settings
from mailroom.errors import BadSettings, Throttled
from mailroom.model.account import AT_ONCE, Account
from mailroom.model.lane import Permit
from mailroom.model.message import Outgoing, Receipt
from mailroom.model.slice import Ref
from mailroom.model.token import Token
from mailroom.providers import graph, smtp
from send_mail.line import Line
from tests.sending import PROFILE, FakeProvider, Room, message
from token_refresh.renew import in_use

READER = msgspec.structs.replace(PROFILE, name="reader")
GRAPH = Account("billing", "graph", "b@x.example", READER, permissions=frozenset({"Mail.Read"}), traits=graph.TRAITS)


class Post(FakeProvider):
    """SMTP, which nobody can ask, and Graph, which has what it sent."""

    throttles: bool = False

    def asking(self) -> None:
        self.asked: list[tuple[str, str, bool, int]] = []

    async def ask(self, account: Account, mails: Sequence[Outgoing], token: Token, at_once: int = AT_ONCE) -> list[Receipt | None]:
        self.asked += [(account.provider, account.profile.name, mail.in_header, at_once) for mail in mails]
        if self.throttles:
            raise Throttled("throttled", "429", retry_after=30.0)
        return await super().ask(account, mails, token, at_once)


def room_of_two(*script: str) -> tuple[Room, Post]:
    room = Room(provider="smtp", permissions=frozenset(), traits=smtp.TRAITS, asked=GRAPH)
    room.provider = post = Post(room.real, room.timing, script=list(script))
    post.asking()
    return room, post


async def posted(room: Room) -> str:
    slice_ = await room.accept.single(message("m1"), "crm", "hash")
    return slice_.mails[0].status


@pytest.mark.parametrize("answer", ["lost after", "lost before"])
async def test_what_it_sent_is_asked_for_elsewhere(answer: str) -> None:
    """By the other profile's token, by the stamp in its header, one request at a time; then it is there once, and nobody has to decide."""
    room, post = room_of_two(answer)
    assert await posted(room) == "in_doubt"
    await room.come_to_rest()
    assert list(post.copies.values()) == [1]
    assert post.asked == [("graph", "reader", True, 1)]


async def test_the_question_needs_a_place_in_the_other_lane() -> None:
    """While four requests are in flight there it is not asked, nor is the mail sent; then it is, and the permit given back."""
    room, post = room_of_two("lost after")
    await posted(room)
    assert isinstance(await room.lanes.join(GRAPH, Permit("others", 4, room.clock() + 60)), Permit)
    room.pass_time(room.timing.grace + 1)
    await room.work_off()
    assert (post.asked, post.calls) == ([], 1)
    await room.come_to_rest()
    assert len(post.asked) == 1
    assert (await room.lanes.look(GRAPH)).permits == ()


@pytest.mark.parametrize("own", [True, False])
async def test_a_throttled_question_rests_the_lane_that_it_was_asked_in(own: bool) -> None:
    """Retry-After is for the whole mailbox at that provider, for one that sends there as for one that only is asked there."""
    room, post = room_of_two("lost after")
    if own:
        room.account = msgspec.structs.replace(GRAPH, permissions=frozenset({"Mail.Send", "Mail.Read"}), rate=60000.0)
        room.start()
    await posted(room)
    post.throttles = True
    room.pass_time(room.timing.grace + 1)
    await room.work_off()
    assert (await room.lanes.look(GRAPH)).not_before == room.clock() + 30
    post.throttles = False
    await room.come_to_rest()
    assert list(post.copies.values()) == [1]


@pytest.mark.parametrize(("policy", "ends", "copies"), [("hold", "held", 1), ("resend", "sent", 2)])
async def test_a_mail_in_mime_that_no_search_would_find(policy: str, ends: str, copies: int) -> None:
    """Not being found says nothing of it, so it follows `in_doubt`, while its neighbour in JSON is asked for."""
    account = msgspec.structs.replace(GRAPH, permissions=frozenset({"Mail.Send", "Mail.Read"}), rate=60000.0, ask_mime=False)
    room = Room()
    room.account = msgspec.structs.replace(account, in_doubt=policy)
    room.provider = post = Post(room.real, room.timing, script=["killed after"])
    post.asking()
    room.start()
    answer = msgspec.structs.replace(message("answer"), in_reply_to="<a@b>")
    made = await room.accept.batch([Line(1, answer), Line(2, message("plain"))], [], "crm", "hash")
    await room.alive(lambda: room.deliver.work(Ref("billing", made.id)))
    await room.come_to_rest()
    found = await room.ledger.read(Ref("billing", made.id))
    assert found is not None
    assert [mail.status for mail in found.mails] == [ends, "sent"]
    assert (len(post.asked), [post.copies[mail.stamp] for mail in found.mails]) == (1, [copies, 1])


@pytest.mark.parametrize("script", ["lost after", "429"])
async def test_a_lost_answer_to_a_mail_in_mime(script: str) -> None:
    """Held at once; a 429 counts as not sent, as where nobody can be asked at all."""
    room = Room(ask_mime=False)
    room.provider.script = [script]
    made = await room.accept.single(msgspec.structs.replace(message("m1"), mime=b"Subject: x\r\n\r\n"), "crm", "hash")
    assert made.mails[0].status == ("held" if script == "lost after" else "pending")
    await room.come_to_rest()
    assert (list(room.provider.copies.values()), room.provider.questions) == ([1], 0)


def test_only_graph_asks_by_headers(tmp_path: Path) -> None:
    """Its accounts may say that they can't; elsewhere there is nothing to say."""
    graph_account = OFFICE + SMTP.replace('"smtp"', '"graph"')
    assert read(tmp_path, graph_account).ask_mime
    assert not read(tmp_path, graph_account + "ask_mime = false\n").ask_mime
    with pytest.raises(BadSettings) as raised:
        read(tmp_path, OFFICE + SMTP + "ask_mime = false\n")
    assert "accounts.a.ask_mime: unknown key" in raised.value.mistakes[0]


def test_both_sides_tokens_are_kept_fresh() -> None:
    """A question after a lost answer must not wait for a token, nor find out only then that there is none."""
    account = msgspec.structs.replace(GRAPH, provider="smtp", profile=PROFILE, traits=smtp.TRAITS, asked=GRAPH)
    assert sorted((one.profile.name, one.provider) for group in in_use([account]) for one in group) == [
        ("graph", "smtp"),
        ("reader", "graph"),
    ]


APP = 'tenant = "x.example"\nclient_id = "66666666-7777-8888-9999-000000000000"\n'
OFFICE = f'[auth.office]\ngrant = "client_credentials"\n{APP}secret = "s"\n'
PERSON = f'[auth.person]\ngrant = "refresh_token"\n{APP}refresh_token_secret = "r"\n'
GOOGLE = '[auth.google]\ngrant = "jwt_bearer"\nsecret = "key"\n'
SMTP = '[accounts.a]\nprovider = "smtp"\naddress = "a@x.example"\nauth = "office"\n'


def read(tmp_path: Path, text: str) -> Account:
    path = tmp_path / "accounts.toml"
    path.write_text(text, "utf-8")
    return settings.read(path, {}).accounts["a"]


def test_one_line_says_who_may_look(tmp_path: Path) -> None:
    """On Graph for Exchange, at Gmail for Gmail, where the service account signs in as the mailbox; with the least permission."""
    assert not read(tmp_path, OFFICE + SMTP).can_be_asked
    account = read(tmp_path, OFFICE + SMTP + 'ask_auth = "office"\n')
    assert account.can_be_asked
    assert account.asked is not None
    assert (account.asked.provider, account.asked.profile.name, account.asked.permissions) == ("graph", "office", {"Mail.Read"})
    gmail = read(tmp_path, GOOGLE + SMTP.replace("office", "google") + 'preset = "gmail"\nask_auth = "google"\n').asked
    assert gmail is not None
    assert (gmail.provider, gmail.profile.subject, gmail.permissions) == ("gmail", "a@x.example", {"gmail.readonly"})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('ask_auth = "offices"', 'accounts.a.ask_auth: found "offices"; did you mean office?'),
        ('ask_auth = "google"', "accounts.a.ask_auth: found a profile with grant jwt_bearer; should be one with another grant"),
        ('ask_auth = "person"', "accounts.a.ask_auth: found a profile with grant refresh_token; should be one of an application"),
        ('preset = "hve"\nask_auth = "office"', "accounts.a.ask_auth: unknown key"),
    ],
)
def test_who_may_not_look(tmp_path: Path, line: str, said: str) -> None:
    """Whose tokens would be refused, and where nothing is left to look at."""
    with pytest.raises(BadSettings) as raised:
        read(tmp_path, OFFICE + PERSON + GOOGLE + SMTP + line + "\n")
    [mistake] = raised.value.mistakes
    assert mistake.startswith(said)
