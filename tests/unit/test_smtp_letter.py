"""A mail as it goes by SMTP: its envelope, its line ends, its dots."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom.model.account import Account, Cloud, Profile
from mailroom.model.message import Address, Message, Outgoing
from mailroom.providers._smtp_letter import Letter, written

NOW = datetime(2026, 11, 27, 10, 0, tzinfo=UTC)
CLOUD = Cloud("https://login.example", "graph", "scope", "vault", "storage")


def account(**options: str) -> Account:
    profile = Profile("office", "client_credentials", "t", "c", CLOUD)
    return Account("billing", "smtp", "anna@mailroom.example", profile, options=tuple(options.items()))


def letter(**fields: Any) -> Letter:
    return written(account(), Outgoing("s1", Message("billing", **{"to": (Address("ben@mailroom.example"),)} | fields)), NOW)


def test_the_envelope_has_everybody_once() -> None:
    """To, Cc and Bcc together, whoever is in several of them but once, in whatever spelling."""
    made = letter(cc=(Address("BEN@mailroom.example"), Address("c@x.example")), bcc=(Address("d@bücher.example"),))
    assert [one.lower() for one in made.recipients] == ["ben@mailroom.example", "c@x.example", "d@xn--bcher-kva.example"]
    assert b"d@xn" not in made.content


def test_the_message_id_is_the_stamps() -> None:
    """The same mail has the same Message-ID however often it is written, so that its copies can be told to be one."""
    assert letter().message_id == letter(text="Else").message_id == "<s1@mailroom.example>"
    assert b"\r\nMessage-ID: <s1@mailroom.example>\r\n" in letter().content


def test_a_ready_mails_own_message_id_stays() -> None:
    """It is the mail's name to whoever wrote it, also where it is folded."""
    made = letter(mime=b"From: anna@mailroom.example\r\nMessage-ID:\r\n <own@x.example>\r\nDate: Fri, 27 Nov 2026 09:00:00 +0000\r\n\r\nHi")
    assert made.message_id == "<own@x.example>"
    assert made.content.lower().count(b"message-id") == 1
    assert made.content.lower().count(b"date:") == 1


def test_only_the_heads_bcc_goes() -> None:
    """With its folded lines; a Bcc in the text, or in a header's value, stays."""
    raw = b"Bcc: a@x.example,\r\n b@x.example\r\nSubject: Bcc: me\r\nBCC : c@x.example\r\n\r\nBcc: stays\r\n"
    made = letter(mime=raw)
    assert b"a@x" not in made.content
    assert b"b@x" not in made.content
    assert b"c@x" not in made.content
    assert b"Subject: Bcc: me\r\n" in made.content
    assert made.content.endswith(b"\r\n\r\nBcc: stays\r\n")


@pytest.mark.parametrize("raw", [b"", b"\r\n", b"\n\nbody", b"Subject: only a head", b"Bcc: only@x.example", b"no header at all"])
def test_odd_ready_mails(raw: bytes) -> None:
    """Whatever it is: the stamp and the Message-ID are in the head, and it ends with a line end."""
    made = letter(mime=raw)
    head = made.content.partition(b"\r\n\r\n")[0]
    assert b"X-Mailroom-Stamp: s1" in head
    assert b"Message-ID: <s1@" in head
    assert b"only@x" not in made.content
    assert made.content.endswith(b"\r\n")


@given(st.binary(max_size=200))
def test_nothing_in_a_mail_ends_it(body: bytes) -> None:
    """No lone CR or LF, and one lone dot: at the very end (RFC 5321, 4.1.1.4; what else smuggles a second mail)."""
    wire = letter(mime=b"Subject: x\r\n\r\n" + body).on_the_wire()
    assert wire.endswith(b"\r\n.\r\n")
    assert wire.find(b"\r\n.\r\n") == len(wire) - 5
    assert not wire.replace(b"\r\n", b"").count(b"\n")
    assert not wire.replace(b"\r\n", b"").count(b"\r")


@given(st.binary(max_size=200))
def test_dots_come_out_as_they_went_in(body: bytes) -> None:
    """Who takes the doubled dots away has the content again."""
    made = letter(mime=b"Subject: x\r\n\r\n" + body)
    lines = made.on_the_wire()[: -len(b".\r\n")].split(b"\r\n")
    assert b"\r\n".join(line.removeprefix(b".") for line in lines) == made.content


def test_what_needs_more_than_ascii() -> None:
    """A local part in another alphabet needs SMTPUTF8, a raw 8-bit body 8BITMIME, and a mail of ours neither."""
    assert not letter(text="Grüße", subject="Grüße").eight_bit
    assert not letter(to=(Address("x@bücher.example"),)).utf8
    assert letter(to=(Address("jörg@x.example"),)).utf8
    assert letter(mime="Subject: x\r\n\r\nGrüße".encode("latin-1")).eight_bit


def test_whose_the_mail_is() -> None:
    """The account's own address or its `from`, unless the mail names somebody else."""
    fixed = written(account(**{"from": "no-reply@mailroom.example"}), Outgoing("s1", Message("billing")), NOW)
    assert (fixed.sender, fixed.own_sender) == ("no-reply@mailroom.example", True)
    named = letter(sender=Address("boss@mailroom.example"))
    assert (named.sender, named.own_sender) == ("boss@mailroom.example", False)
    assert letter(mime=b"From: Anna <anna@mailroom.example>\r\n\r\n").own_sender
    assert not letter(mime=b"From: boss@mailroom.example\r\n\r\n").own_sender
