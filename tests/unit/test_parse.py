"""What a request's bytes become: a checked message, or an error that says which field is wrong and why."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailroom.errors import BadInput, TooLarge
from mailroom.model.message import Address, Attachment, Message
from mailroom.providers import graph
from send_mail import parse
from tests.fakes import FakeParts

GOOD = {"account": "billing", "to": ["Ann <ann@example.com>"], "subject": "Hello", "text": "Hello Ann"}
PDF = {"name": "a.pdf", "content": "YQ=="}
BOM = b"\xef\xbb\xbf"


def body(**fields: Any) -> bytes:
    return json.dumps(GOOD | fields).encode()


def refused(raw: bytes) -> tuple[str, str]:
    with pytest.raises(BadInput) as caught:
        parse.message(raw)
    assert caught.value.next_step
    return caught.value.code, caught.value.field


def people(count: int, place: str = "a") -> list[str]:
    return [f"{place}{number}@example.com" for number in range(count)]


def test_every_field_arrives() -> None:
    """A message that uses all fields comes out with each of them where it belongs."""
    fields = {
        "id": "invoice-7",
        "to": ["Ann <ann@example.com>"],
        "cc": ["bob@example.com"],
        "bcc": ['"Cy, the Third" <cy@example.com>'],
        "reply_to": ["desk@example.com"],
        "html": "<p>Hello</p>",
        "headers": {"x-campaign": "7"},
        "importance": "high",
        "in_reply_to": "<question@example.com>",
        "attachments": [{"name": "a.png", "content": "AAH/", "type": "image/png", "content_id": "logo"}],
    }
    assert parse.message(body(**fields)) == Message(
        account="billing",
        id="invoice-7",
        to=(Address("ann@example.com", "Ann"),),
        cc=(Address("bob@example.com"),),
        bcc=(Address("cy@example.com", "Cy, the Third"),),
        reply_to=(Address("desk@example.com"),),
        subject="Hello",
        text="Hello Ann",
        html="<p>Hello</p>",
        headers={"x-campaign": "7"},
        importance="high",
        in_reply_to="<question@example.com>",
        attachments=(Attachment("a.png", b"\x00\x01\xff", "image/png", "logo"),),
    )


BAD_FIELDS = [
    ({"to": ["ann"]}, "address_without_domain", "to[0]"),
    ({"to": ["ann@"]}, "address_without_domain", "to[0]"),
    ({"to": ["Ann <ann@ >"]}, "address_without_domain", "to[0]"),
    ({"cc": ["bob@example.com", "Ann <ann>"]}, "address_without_domain", "cc[1]"),
    ({"bcc": ["a@example.com, b@example.com"]}, "address_invalid", "bcc[0]"),
    ({"reply_to": [""]}, "address_invalid", "reply_to[0]"),
    ({"to": ["a b@example.com"]}, "address_invalid", "to[0]"),
    ({"to": ["ann@example..com"]}, "address_invalid", "to[0]"),
    ({"to": ["ann\x01@example.com"]}, "address_invalid", "to[0]"),
    ({"to": ["ann@example.com\x7f"]}, "address_invalid", "to[0]"),
    ({"to": ["(" * 5000]}, "address_invalid", "to[0]"),
    ({"subject": "Hi\r\nBcc: all@example.com"}, "header_line_break", "subject"),
    ({"subject": "Hi\rthere"}, "header_line_break", "subject"),
    ({"subject": "Hi\0there"}, "header_line_break", "subject"),
    ({"to": ["ann@example.com\nBcc: all@example.com"]}, "header_line_break", "to[0]"),
    ({"reply_to": ["Ann\n <ann@example.com>"]}, "header_line_break", "reply_to[0]"),
    ({"headers": {"x-a": "b\nc"}}, "header_line_break", "headers.x-a"),
    ({"headers": {"x-a\r\nBcc": "b"}}, "header_line_break", "headers.x-a\r\nBcc"),
    ({"attachments": [PDF, PDF | {"name": "a\nb"}]}, "header_line_break", "attachments[1].name"),
    ({"attachments": [PDF | {"type": "a/b\nX: y"}]}, "header_line_break", "attachments[0].type"),
    ({"attachments": [PDF | {"content_id": "a\nb"}]}, "header_line_break", "attachments[0].content_id"),
    ({"in_reply_to": "<a@b>\nX: y"}, "in_reply_to_invalid", "in_reply_to"),
    ({"in_reply_to": "a@b"}, "in_reply_to_invalid", "in_reply_to"),
    ({"in_reply_to": "<a\0@b>"}, "in_reply_to_invalid", "in_reply_to"),
    ({"in_reply_to": "<a@b\x1f>"}, "in_reply_to_invalid", "in_reply_to"),
    ({"to": []}, "recipients_none", "to"),
    ({"to": people(501)}, "recipients_too_many", "to"),
    ({"to": people(200), "cc": people(200, "b"), "bcc": people(101, "c")}, "recipients_too_many", "to"),
    ({"headers": {f"x-{number}": "v" for number in range(6)}}, "headers_too_many", "headers"),
    ({"headers": {"Precedence": "bulk"}}, "header_not_x", "headers.Precedence"),
    ({"headers": {"x-": "v"}}, "header_not_x", "headers.x-"),
    ({"headers": {"x-a:b": "v"}}, "header_not_x", "headers.x-a:b"),
    ({"headers": {"X-MAILROOM-STAMP": "v"}}, "header_reserved", "headers.X-MAILROOM-STAMP"),
    ({"id": ""}, "id_invalid", "id"),
    ({"id": "a/b"}, "id_invalid", "id"),
    ({"id": "a" * 101}, "id_invalid", "id"),
    ({"attachments": [PDF, PDF | {"content": "%%%"}]}, "base64_invalid", "attachments[1].content"),
    ({"attachments": [PDF | {"content": "YQ"}]}, "base64_invalid", "attachments[0].content"),
    ({"attachments": [PDF | {"name": ""}]}, "attachment_without_name", "attachments[0].name"),
    ({"attachments": [PDF | {"type": "pdf"}]}, "attachment_type_invalid", "attachments[0].type"),
    ({"attachments": [PDF | {"type": "application/"}]}, "attachment_type_invalid", "attachments[0].type"),
    ({"attachments": [{"content": "YQ=="}]}, "field_missing", "attachments[0].name"),
    ({"attachments": [PDF | {"size": 1}]}, "field_unknown", "attachments[0].size"),
    ({"subjekt": "Hi"}, "field_unknown", "subjekt"),
    ({"": 1}, "field_unknown", ""),
    ({".": 1}, "field_unknown", "."),
    ({"a`b": 1}, "field_unknown", "a`b"),
    ({"a\nb": 1}, "field_unknown", "a\nb"),
    ({"a - at `$.b`": 1}, "field_unknown", "a - at `$.b`"),
    ({"subject": 7}, "field_type", "subject"),
    ({"to": "ann@example.com"}, "field_type", "to"),
    ({"to": [None]}, "field_type", "to[0]"),
    ({"importance": "urgent"}, "field_type", "importance"),
    ({"importance": "base64"}, "field_type", "importance"),
    ({"account": None}, "field_type", "account"),
]


@pytest.mark.parametrize(("change", "code", "field"), BAD_FIELDS)
def test_a_mistake_has_a_code_and_names_its_field(change: dict[str, Any], code: str, field: str) -> None:
    """Each mistake has its own stable code, the path of what is wrong, and a next step."""
    assert refused(body(**change)) == (code, field)


def test_the_account_is_asked_for() -> None:
    """A message without an account says which field is missing."""
    assert refused(b'{"to": ["ann@example.com"]}') == ("field_missing", "account")


def test_an_unknown_field_is_told_the_known_ones() -> None:
    """Who misspells a field hears what he wrote and every name that would be right."""
    with pytest.raises(BadInput) as caught:
        parse.message(body(subjekt="Hi"))
    assert "'subjekt'" in caught.value.detail
    assert "subject, text, html" in caught.value.next_step


def test_what_is_found_is_shown_but_not_at_length() -> None:
    """A wrong value of a megabyte stands in the answer with its beginning only."""
    with pytest.raises(BadInput) as caught:
        parse.message(body(to=["x" * 1_000_000]))
    assert "'xxxx" in caught.value.detail
    assert len(caught.value.detail) < 200


LIMITS = [
    {"to": people(500)},
    {"to": people(200), "cc": people(200, "b"), "bcc": people(100, "c")},
    {"to": [], "bcc": ["ann@example.com"]},
    {"headers": {f"X-{number}": "v" for number in range(5)}},
    {"id": "Az09._~@+=:-"},
    {"id": "a" * 100},
    {"subject": "Grüße\tan 田中 🎉"},
    {"text": "two\r\nlines", "html": "<p>\n</p>"},
    {"to": ["Zoë <zoë@exämple.de>"]},
]


@pytest.mark.parametrize("change", LIMITS)
def test_what_is_just_right_passes(change: dict[str, Any]) -> None:
    """The last value before a limit is allowed, and so are line breaks in a body and letters of any alphabet."""
    message = parse.message(body(**change))
    for name, value in change.items():
        if name in ("id", "subject", "text", "html", "headers"):
            assert getattr(message, name) == value
    assert len(message.recipients) == sum(len((GOOD | change).get(name, ())) for name in ("to", "cc", "bcc"))


NOT_JSON = [b"", b"Dear queue", b'{"account": ', b'{"account": "a"', b"{'account': 'a'}", b"\xff\xfe{\x00}\x00", b'{"account": "\xff"}']


@pytest.mark.parametrize("raw", NOT_JSON)
def test_what_is_not_json_is_said_to_be_not_json(raw: bytes) -> None:
    """No JSON, half of it, and bytes that are no UTF-8 have one code, and no retry would mend them."""
    assert refused(raw) == ("not_json", "")
    assert not BadInput.retryable


@pytest.mark.parametrize("raw", [b"7", b"null", b'"mail"', b"[]", b"[" * 100_000])
def test_json_that_is_no_object_is_no_message(raw: bytes) -> None:
    """A message is an object; whatever else is JSON is refused as a whole."""
    assert refused(raw) == ("field_type", "")


def test_a_byte_order_mark_is_no_mistake() -> None:
    """PowerShell writes one in front of its JSON; the message is the same."""
    assert parse.message(BOM + body()) == parse.message(body())


def test_a_mail_too_large_for_graph_is_refused_with_the_limit() -> None:
    """Graph's provider answers 413 at the door for what its request can't hold, and names how much that is."""
    provider = graph.build(FakeParts(httpx.AsyncClient()))
    large = {"name": "a", "content": base64.b64encode(bytes(3_200_000)).decode()}
    provider.check(parse.message(body(attachments=[PDF])))
    with pytest.raises(TooLarge) as caught:
        provider.check(parse.message(body(attachments=[large])))
    assert (caught.value.status, caught.value.code) == (413, "mail_too_large_for_path")
    assert str(4 * 1024 * 1024) in caught.value.detail


def test_a_ready_mail_keeps_its_bytes() -> None:
    """A mail in RFC 5322 is taken as it is, and its recipients and subject are read out of it."""
    raw = (
        b"From: b@x.example\r\nTo: Ann <ann@example.com>, bob@example.com\r\nCc: =?utf-8?q?Zo=C3=AB?= <z@example.com>\r\n"
        b"Bcc: c@example.com\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nHi\r\n"
    )
    assert parse.ready("billing", raw) == Message(
        account="billing",
        to=(Address("ann@example.com", "Ann"), Address("bob@example.com")),
        cc=(Address("z@example.com", "Zoë"),),
        bcc=(Address("c@example.com"),),
        subject="Grüße",
        mime=raw,
    )


@pytest.mark.parametrize(
    ("raw", "code", "field"),
    [
        (b"", "recipients_none", "to"),
        (b"From: b@x.example\r\nSubject: Hi\r\n\r\nHi\r\n", "recipients_none", "to"),
        (b"To: " + ", ".join(people(501)).encode() + b"\r\n\r\nHi\r\n", "recipients_too_many", "to"),
        (b"To: ann@example.com\r\nCc: bob@example.com, ann\r\n\r\nHi\r\n", "address_invalid", "cc[1]"),
    ],
)
def test_a_ready_mail_is_checked_too(raw: bytes, code: str, field: str) -> None:
    """A ready mail needs recipients as any other, at most 500 and each an address."""
    with pytest.raises(BadInput) as caught:
        parse.ready("billing", raw)
    assert (caught.value.code, caught.value.field) == (code, field)


words = st.text(max_size=12) | st.sampled_from(["ann@example.com", "Ann <ann@example.com>", "x-a", "base64", "YQ==", "high", "<a@b>"])
names = (
    st.sampled_from([*GOOD, "cc", "bcc", "headers", "id", "importance", "in_reply_to", "attachments", "name", "content", "type"]) | words
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=6,
)


def outcome(read: Callable[[Any], Any], given: Any) -> Any:
    try:
        return read(given)
    except BadInput as error:
        return error


@settings(max_examples=100, deadline=None)
@given(anything)
def test_whatever_json_comes_only_our_errors_go(value: Any) -> None:
    """Any JSON at all is a message with a recipient or a BadInput; what lies in a field of it has that field named."""
    found = outcome(parse.message, json.dumps(value).encode())
    if isinstance(found, Message):
        assert found.recipients
    else:
        assert found.field or not isinstance(value, dict) or found.code == "not_json" or "" in value


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(names, anything, max_size=2))
def test_a_wrong_field_of_a_good_message_is_the_one_that_is_named(changes: dict[str, Any]) -> None:
    """Where only some fields of a good message were changed, an error names one of these."""
    found = outcome(parse.message, body(**changes))
    if isinstance(found, Message):
        assert 1 <= len(found.recipients) <= parse.MAX_RECIPIENTS
    else:
        assert found.code == "not_json" or any(found.field.startswith(name) for name in changes)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60) | st.builds(lambda name, text: f"{name}: {text}\r\n\r\n".encode(), st.sampled_from(["To", "Cc"]), st.text()))
def test_whatever_bytes_come_only_our_errors_go(raw: bytes) -> None:
    """Any bytes at all, as JSON or as a ready mail, are a message with a recipient or a BadInput."""
    for read in (parse.message, lambda raw: parse.ready("billing", raw)):
        found = outcome(read, raw)
        assert isinstance(found, BadInput) or found.recipients


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("ab@.<>\"'(),:;\\ \r\n\0é[]"), max_size=20))
def test_no_address_smuggles_a_line_or_a_second_address(text: str) -> None:
    """What comes out as an address is one address on one line, however it was written."""
    found = outcome(lambda text: parse.address("to[0]", text), text)
    if isinstance(found, BadInput):
        assert found.field == "to[0]"
    else:
        assert found.address.count("@") == 1
        assert not set("\r\n\0 ,<>") & set(found.address)
        assert not set("\r\n\0") & set(found.name)
