"""Mails as bytes: written so that others read them, stamped without a scratch, read whoever wrote them."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections import Counter
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailroom.model.message import Address, Attachment, Message
from mailroom.model.received import Received
from mailroom.providers import mime

ODDITIES = sorted((Path(__file__).parents[1] / "mail").glob("*.eml"))
CORPUS = os.environ.get("MAILROOM_CORPUS")  # a folder of .eml files and expected.jsonl
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
MINE = Address("me@x.example")


def built(**fields: Any) -> bytes:
    return mime.build(Message("billing", **{"to": (Address("ann@example.com"),)} | fields), stamp="s1", sender=MINE.address, date=NOW)


def read(raw: bytes) -> EmailMessage:
    """As the standard library reads it: somebody else's eyes."""
    found = message_from_bytes(raw, policy=default)
    assert isinstance(found, EmailMessage)
    assert not [defect for part in found.walk() for defect in part.defects]
    return found


def test_a_plain_mail() -> None:
    """Every byte of a small mail, CRLF at each line's end, the stamp among the headers."""
    assert built(subject="Hi", text="Hello\nAnn") == (
        b"From: me@x.example\r\nTo: ann@example.com\r\nSubject: Hi\r\nDate: Tue, 24 Nov 2026 12:00:00 +0000\r\nX-Mailroom-Stamp: s1\r\n"
        b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nHello\r\nAnn"
    )


def test_all_parts_have_their_place() -> None:
    """Text beside html, inline images with the html, files behind both."""
    files = (Attachment("a.pdf", b"%PDF" * 99, "application/pdf"), Attachment("logo.png", b"PNG", "image/png", "logo"))
    mail = read(built(text="Grüße", html="<img src='cid:logo'>", attachments=files))
    assert [part.get_content_type() for part in mail.walk()] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "multipart/related",
        "text/html",
        "image/png",
        "application/pdf",
    ]
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text
    assert html
    assert text.get_content().strip() == "Grüße"
    assert html.get_content().strip() == "<img src='cid:logo'>"
    logo, pdf = list(mail.walk())[5:]
    assert (logo["Content-ID"], logo.get_content_disposition(), logo.get_filename()) == ("<logo>", "inline", "logo.png")
    assert (pdf.get_content(), pdf.get_content_disposition(), pdf.get_filename()) == (b"%PDF" * 99, "attachment", "a.pdf")


def test_headers_of_a_reply() -> None:
    """It names what it answers, twice; Bcc stays in, since Graph reads the recipients there."""
    mail = read(
        built(
            in_reply_to="<a@b>",
            bcc=(Address("b@x.y"),),
            reply_to=(Address("r@x.y"),),
            importance="high",
            headers={"x-ä".replace("ä", "a"): "1"},
        )
    )
    assert (mail["In-Reply-To"], mail["References"], mail["Bcc"], mail["Reply-To"]) == ("<a@b>", "<a@b>", "b@x.y", "r@x.y")
    assert (mail["Importance"], mail["x-a"], mail["X-Mailroom-Stamp"]) == ("high", "1", "s1")
    assert b"Message-ID: <m@x>\r\n" in mime.build(Message("b"), stamp="s", sender="m@x", date=NOW, message_id="<m@x>")


def test_domains_go_as_dns_has_them() -> None:
    """A domain in another alphabet is written in the one that every server knows."""
    assert b"To: b@xn--mller-kva.example\r\n" in built(to=(Address("b@müller.example"),))


TEXTS = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=120)
NAMES = TEXTS.map(lambda name: " ".join(name.split()))


@given(name=NAMES, subject=NAMES, text=st.text(st.characters(blacklist_categories=["Cs"]), max_size=300), file=NAMES.filter(bool))
@example(name='"Ann" \\ <x>', subject="=?utf-8?q?not_encoded?=", text=".\r\nFrom me\n \n", file='a"b\\c;d.pdf')
@example(name="Änn, " * 60, subject="x" * 2000, text="=" * 200, file="ü" * 400 + ".pdf")
@example(name="a" * 1200, subject="Grüße " * 300, text="\r", file="f" * 1200)
def test_what_is_written_is_read_again(name: str, subject: str, text: str, file: str) -> None:
    """Any name, subject, text and file name comes back as it went, in lines that SMTP can carry."""
    raw = built(to=(Address("ann@example.com", name),), subject=subject, text=text, attachments=(Attachment(file, b"\0\xff", "a/b"),))
    found = mime.parse(raw)
    assert found.to == (Address("ann@example.com", name.strip()),)
    assert found.subject == subject.strip()
    assert found.text == re.sub("\r\n|\r", "\n", text)
    assert [(one.name, one.size) for one in found.attachments] == [(file, 2)]
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"From: a@b\r\n\r\nBody", b"X-Mailroom-Stamp: s1\r\nFrom: a@b\r\n\r\nBody"),
        (b"From: a@b\n\nBody\n", b"X-Mailroom-Stamp: s1\nFrom: a@b\n\nBody\n"),
        (b"A: 1\r\nx-mailroom-STAMP : other\r\n folded\r\nB: 2\r\n\r\n", b"X-Mailroom-Stamp: s1\r\nA: 1\r\nB: 2\r\n\r\n"),
        (b"A: 1\r\n\r\nX-Mailroom-Stamp: in the body\r\n", b"X-Mailroom-Stamp: s1\r\nA: 1\r\n\r\nX-Mailroom-Stamp: in the body\r\n"),
        (b"\r\nonly a body", b"X-Mailroom-Stamp: s1\r\n\r\nonly a body"),
        (b"X-Mailroom-Stamp: forged", b"X-Mailroom-Stamp: s1\r\n"),
        (b"", b"X-Mailroom-Stamp: s1\r\n"),
    ],
)
def test_a_ready_mail_is_stamped_and_else_untouched(raw: bytes, expected: bytes) -> None:
    """One line more on top, in the mail's own line ends, a foreign stamp gone; signatures hold."""
    assert mime.stamped(raw, "s1") == expected


@given(st.binary(max_size=200))
def test_a_stamp_disturbs_nothing(body: bytes) -> None:
    """Whatever the body, its bytes stay."""
    head = b"From: a@b\r\nContent-Type: multipart/signed\r\n\r\n"
    assert mime.stamped(head + body, "s1") == b"X-Mailroom-Stamp: s1\r\n" + head + body


def test_the_envelope_of_a_ready_mail() -> None:
    """Whom it is from and for, each address as one that our API takes too."""
    found = mime.envelope(
        b'From: =?utf-8?q?=C3=84nn?= <a@b>\nTo: x@y (Xaver),\n "Z, \\"z\\"" <z@y>\nBcc: h@y\nSubject: =?utf-8?q?Hi?=\n\nBody'
    )
    assert found.sender == ['"Änn" <a@b>']
    assert (found.to, found.cc, found.bcc, found.subject) == (['"Xaver" <x@y>', '"Z, \\"z\\"" <z@y>'], [], ["h@y"], "Hi")


@pytest.mark.parametrize("path", ODDITIES, ids=lambda path: path.stem)
def test_an_odd_mail_is_read_as_expected(path: Path) -> None:
    """Each oddity is a mail and what is expected of it."""
    found, expected = _shown(mime.parse(path.read_bytes())), json.loads(path.with_suffix(".json").read_text())
    assert {name: found[name] for name in expected} == expected


HEADERS = st.sampled_from(
    [b"From", b"To", b"Subject", b"Date", b"References", b"Content-Type", b"Content-Disposition", b"Content-Transfer-Encoding"]
)
SPELLED = (
    b"a@b|=?utf-8?B?|=?utf-7?q?|?=|=C3|\r\n |\r\n\r\n|\\ud800|multipart/mixed; boundary=b|--b|\r\n--b\r\n|--b--|message/rfc822|text/html"
)
PARAMETERS = b"filename*0*=|utf-8''|charset=unicode_escape|charset=idna|charset=utf-16|base64|quoted-printable|x-uuencode|begin 644 a\n"
SIGNS = [bytes([sign]) for sign in b'<>(),;:"\\ \t%*=\xff']
PIECES = st.sampled_from([*SPELLED.split(b"|"), *PARAMETERS.split(b"|"), *SIGNS])
MAILS = st.one_of(
    st.binary(max_size=300),
    st.lists(st.one_of(PIECES, HEADERS.map(lambda name: b"\r\n" + name + b": "), st.binary(max_size=4)), max_size=40).map(b"".join),
)


@given(MAILS)
def test_no_bytes_make_it_fail(raw: bytes) -> None:
    """Strangers may send anything: it is read as far as it goes, and what was read can be stored and stamped."""
    msgspec.json.encode(mime.parse(raw))
    msgspec.json.encode(mime.envelope(raw))
    assert mime.stamped(raw, "s1").startswith(b"X-Mailroom-Stamp: s1")


@pytest.mark.parametrize("level", [b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n', b"Content-Type: message/rfc822\r\n\r\n"])
def test_a_mail_nested_without_end_is_read_by_its_headers(level: bytes) -> None:
    """Thousands of parts in parts exhaust no stack."""
    assert mime.parse(b"Subject: Deep\r\n" + level * 5000).subject == "Deep"


@pytest.mark.skipif(not CORPUS, reason="MAILROOM_CORPUS names no folder of mails")
def test_mails_that_strangers_wrote() -> None:
    """Where three other readers agree, so do we, but for a handful: line ends in flowed text, and attached mails, which we list."""
    folder, wrong, total = Path(CORPUS or ""), Counter[str](), Counter[str]()
    for line in (folder / "expected.jsonl").read_text().splitlines():
        row = json.loads(line)
        found = _comparable(mime.parse((folder / row["file"]).read_bytes()))
        total += Counter(row["agreed"].keys())
        wrong += Counter(name for name, value in row["agreed"].items() if found[name] != value)
    assert total
    assert wrong <= Counter(text=2, attachments=6), wrong


def _shown(mail: Received) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(mail)
    for name in ("from", "to", "cc", "reply_to"):
        fields[name] = [[one["name"], one["address"]] for one in fields[name]]
    fields["attachments"] = [[one["name"], one["type"], one["size"], one["sha256"], one["content_id"]] for one in fields["attachments"]]
    return json.loads(msgspec.json.encode(fields))  # type: ignore[no-any-return]


def _comparable(mail: Received) -> dict[str, Any]:
    fields = _shown(mail)
    for name in ("from", "to", "cc", "reply_to"):
        fields[name] = [[_squeezed(who), where.lower()] for who, where in fields[name]]
    for name in ("subject", "text", "html"):
        fields[name] = _squeezed(fields[name])
    fields["attachments"] = sorted([_squeezed(name), *rest] for name, *rest, _ in fields["attachments"])
    return fields | {name: fields[name] or "" for name in ("date", "message_id", "in_reply_to")}


def _squeezed(text: str | None) -> str:
    return unicodedata.normalize("NFC", " ".join((text or "").split()))
