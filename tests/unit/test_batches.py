"""A batch's bytes become lines: array or NDJSON, each line numbered, each bad one named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailroom.errors import BadInput, Forbidden, MailroomError, TooLarge
from mailroom.model.batch import RefusedLine
from mailroom.model.message import Message
from send_mail import batches
from tests.sending import Room

BOM = b"\xef\xbb\xbf"


def mail(**fields: Any) -> dict[str, Any]:
    return {"account": "billing", "to": ["ann@example.com"]} | fields


def ndjson(*values: Any) -> bytes:
    return "\n".join(map(json.dumps, values)).encode()


def array(*values: Any) -> bytes:
    return json.dumps(values).encode()


def anything_goes(message: Message) -> None:
    """A check that has no objection."""


def numbers(body: bytes) -> list[int]:
    good, refused = batches.lines(body, anything_goes, partial=False)
    assert refused == []
    return [line.number for line in good]


def refusal(body: bytes, check: Any = anything_goes) -> MailroomError:
    with pytest.raises(MailroomError) as caught:
        batches.lines(body, check, partial=False)
    return caught.value


THREE = [mail(subject="one"), mail(subject="two"), mail(subject="three")]


@pytest.mark.parametrize("body", [ndjson(*THREE), ndjson(*THREE) + b"\n", array(*THREE), json.dumps(THREE, indent=2).encode()])
def test_an_array_and_lines_say_the_same(body: bytes) -> None:
    """Three mails as NDJSON or as a JSON array, on one line or on many, are the same three in their order."""
    good, refused = batches.lines(body, anything_goes, partial=False)
    assert [(line.number, line.message.subject) for line in good] == [(1, "one"), (2, "two"), (3, "three")]
    assert refused == []


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_blank_lines_count_but_are_no_mails(end: bytes) -> None:
    """A line's number is the one an editor shows, whatever ends its lines and however many of them are blank."""
    line = ndjson(mail())
    assert numbers(end.join([b"", line, b"", b" \t ", line, b""])) == [2, 5]


def test_a_line_separator_in_a_text_ends_no_line() -> None:
    """Only CR and LF end a line of NDJSON; U+2028 and NEL may stand in a mail's text as they are."""
    text = "a\u2028b\u0085c\x7f"
    body = json.dumps(mail(text=text), ensure_ascii=False).encode()
    good, _ = batches.lines(body + b"\n" + body, anything_goes, partial=False)
    assert [(line.number, line.message.text) for line in good] == [(1, text), (2, text)]


@pytest.mark.parametrize("make", [ndjson, array])
def test_a_byte_order_mark_is_no_mistake(make: Any) -> None:
    """PowerShell writes one in front of what it saves; the lines and their numbers are the same."""
    assert numbers(BOM + make(*THREE)) == [1, 2, 3]
    assert numbers(BOM + b"\n" + ndjson(mail())) == [2]


def test_white_space_in_front_of_an_array_is_no_mistake() -> None:
    """A body that begins with blank lines may still be an array; its mails are counted, not its lines."""
    assert numbers(b"\r\n \t" + array(*THREE)) == [1, 2, 3]


@pytest.mark.parametrize("body", [b"", b"\n\r\n  \n", b"[]", b" [ ] ", BOM])
@pytest.mark.parametrize("partial", [False, True])
def test_a_batch_without_a_mail_is_refused(body: bytes, partial: bool) -> None:
    """Nothing to send is a mistake of the whole request, not an empty success."""
    with pytest.raises(BadInput) as caught:
        batches.lines(body, anything_goes, partial=partial)
    assert (caught.value.code, caught.value.field) == ("batch_empty", "")


@pytest.mark.parametrize("body", [b"[{]", b'[{"account": "\xff"', array(mail()) + b"x", b"[" * 100_000, b'[{"a":' * 100_000])
@pytest.mark.parametrize("partial", [False, True])
def test_an_array_that_is_no_json_is_refused_whole(body: bytes, partial: bool) -> None:
    """Where an array breaks, nobody can say which of its mails are good; nesting without end breaks it too."""
    with pytest.raises(BadInput) as caught:
        batches.lines(body, anything_goes, partial=partial)
    assert (caught.value.code, caught.value.field) == ("not_json", "")


BAD_LINES = [
    (mail(to=["ann"]), "address_without_domain", "line 2: to[0]"),
    (mail(subject="a\nb"), "header_line_break", "line 2: subject"),
    (mail(subjekt="Hi"), "field_unknown", "line 2: subjekt"),
    (mail(attachments=[{"name": "a", "content": "%"}]), "base64_invalid", "line 2: attachments[0].content"),
    (mail(to=[]), "recipients_none", "line 2: to"),
    ({"to": ["ann@example.com"]}, "field_missing", "line 2: account"),
    ("not an object", "field_type", "line 2"),
    (7, "field_type", "line 2"),
    (None, "field_type", "line 2"),
]


@pytest.mark.parametrize("make", [ndjson, array])
@pytest.mark.parametrize(("bad", "code", "field"), BAD_LINES)
def test_the_first_bad_line_refuses_the_batch_and_is_named(make: Any, bad: Any, code: str, field: str) -> None:
    """The error has the code it would have alone, and its line stands in field and text."""
    error = refusal(make(mail(), bad, mail(), {"worse": 1}))
    assert isinstance(error, BadInput)
    assert (error.code, error.field) == (code, field)
    assert error.detail.startswith(f"{field}: ")
    assert error.next_step


def test_a_line_that_is_no_json_is_named() -> None:
    """A broken line of NDJSON breaks only itself."""
    error = refusal(ndjson(mail()) + b"\n\n{broken\n" + ndjson(mail()))
    assert isinstance(error, BadInput)
    assert (error.code, error.field) == ("not_json", "line 3")


@pytest.mark.parametrize("make", [ndjson, array])
def test_partial_keeps_the_good_lines(make: Any) -> None:
    """With partial the good lines are kept under their numbers, and each refused one has code, text and, where it can be read, its id."""
    body = make(mail(id="a"), mail(id="b", to=["bob"]), {"worse": 1}, mail(id="a"), mail(id="d"))
    good, refused = batches.lines(body, anything_goes, partial=True)
    assert [(line.number, line.message.id) for line in good] == [(1, "a"), (5, "d")]
    assert [(line.line, line.code, line.id) for line in refused] == [
        (2, "address_without_domain", None),
        (3, "field_unknown", None),
        (4, "id_repeated", "a"),
    ]
    assert [line.detail.partition(": ")[0] for line in refused] == ["line 2", "line 3", "line 4"]


def test_partial_without_a_good_line_is_all_refused() -> None:
    """A batch of which no line is good is told line by line, not as an empty one."""
    good, refused = batches.lines(ndjson({}, 7), anything_goes, partial=True)
    assert good == []
    assert [(line.line, line.code) for line in refused] == [(1, "field_missing"), (2, "field_type")]


def test_an_id_stands_once_in_a_batch() -> None:
    """The second mail under an id is the mistake, and it is named."""
    error = refusal(ndjson(mail(id="a"), mail(id="b"), mail(), mail(), mail(id="a")))
    assert isinstance(error, BadInput)
    assert (error.code, error.field) == ("id_repeated", "line 5: id")
    assert "'a'" in error.detail


def test_a_refused_line_does_not_use_up_its_id() -> None:
    """With partial an id of a line that may not be sent is free for a later one."""

    def check(message: Message) -> None:
        if message.account != "billing":
            raise Forbidden("account_forbidden", "Not yours.", "Ask.")

    good, refused = batches.lines(ndjson(mail(id="a", account="hr"), mail(id="a")), check, partial=True)
    assert [line.number for line in good] == [2]
    assert refused == [RefusedLine(1, "account_forbidden", "line 1: Not yours.", "a", "Ask.")]


def test_what_may_not_be_sent_is_a_bad_line_of_its_own_kind() -> None:
    """An account that a caller may not use refuses the batch as it refuses a mail: 403 stays 403, 413 stays 413."""

    def forbid(message: Message) -> None:
        raise Forbidden("account_forbidden", "Not yours.", "Ask.")

    def too_large(message: Message) -> None:
        raise TooLarge("mail_too_large_for_path", "Too large.", "Less.", field="attachments")

    forbidden, large = refusal(ndjson(mail()), forbid), refusal(ndjson(mail()), too_large)
    assert (type(forbidden), forbidden.detail, forbidden.next_step) == (Forbidden, "line 1: Not yours.", "Ask.")
    assert isinstance(large, TooLarge)
    assert (large.status, large.field, large.next_step) == (413, "line 1: attachments", "Less.")


def test_the_room_knows_its_accounts_and_its_limits() -> None:
    """An account that is not there, one that may not send, and a mail beyond its provider are refused before anything is kept."""
    room = Room()
    body = ndjson(mail(), mail(account="nobody"), mail(text="x" * 1001))
    _, refused = batches.lines(body, room.accept.check, partial=True)
    assert [(line.line, line.code) for line in refused] == [(2, "account_unknown"), (3, "mail_too_large_for_path")]
    error = refusal(ndjson(mail()), Room(send=False).accept.check)
    assert isinstance(error, BadInput)
    assert (error.code, error.field) == ("account_unknown", "line 1: account")
    assert "nobody" in refused[0].detail
    assert "billing" in refusal(ndjson(mail(account="nobody")), room.accept.check).next_step
    assert room.fake.calls == []


def test_a_fault_of_our_own_is_no_bad_line() -> None:
    """What is not an error of ours goes through, also with partial."""

    def broken(message: Message) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        batches.lines(ndjson(mail()), broken, partial=True)


@pytest.mark.parametrize("make", [lambda *texts: b"\n".join(texts), lambda *texts: b"[" + b",".join(texts) + b"]"])
def test_bytes_that_are_no_utf_8_spoil_one_line(make: Any) -> None:
    """A mail in Latin-1 among others in UTF-8 is the one that is refused."""
    latin = '{"account": "billing", "to": ["ann@example.com"], "subject": "Grüße"}'.encode("latin-1")
    good, refused = batches.lines(make(ndjson(mail()), latin, ndjson(mail())), anything_goes, partial=True)
    assert [line.number for line in good] == [1, 3]
    assert [(line.line, line.code) for line in refused] == [(2, "not_json")]


values = st.sampled_from([mail(), mail(id="a"), mail(id="b"), mail(to=["ann"]), mail(x=1), {}, None, "x", 7])


@settings(max_examples=200, deadline=None)
@given(st.lists(values, min_size=1, max_size=8))
def test_every_line_is_good_or_refused(lines: list[Any]) -> None:
    """No line is lost, array and NDJSON agree, and without partial the first refused line is the one that is named."""
    good, refused = batches.lines(ndjson(*lines), anything_goes, partial=True)
    assert sorted([line.number for line in good] + [line.line for line in refused]) == list(range(1, len(lines) + 1))
    assert batches.lines(array(*lines), anything_goes, partial=True) == (good, refused)
    if refused:
        assert refusal(array(*lines)).detail == refused[0].detail
    else:
        assert batches.lines(ndjson(*lines), anything_goes, partial=False) == (good, [])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"[", b"]", b"{", b"}", b'"', b":", b",", b"\n", b" ", b"\xff", b"7", b'"account"', b"\\u"]), max_size=12
    ).map(b"".join)
)
def test_whatever_bytes_come_only_our_errors_go(body: bytes) -> None:
    """Any bytes at all are lines, refused lines or a BadInput."""
    try:
        good, refused = batches.lines(body, anything_goes, partial=True)
    except BadInput as error:
        good, refused = [], [RefusedLine(0, error.code, error.detail)]
    assert not good
    assert all(line.code for line in refused)
