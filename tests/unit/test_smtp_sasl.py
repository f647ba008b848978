"""How a token signs in to a mail server, byte for byte."""

from __future__ import annotations

import base64

import pytest

from mailroom.providers import _smtp_sasl as sasl


def test_xoauth2_is_byte_exact() -> None:
    """The worked example of Microsoft's page, user and token joined by control-A."""
    token = "EwBAAl3BAAUFFpUAo7J3Ve0bjLBWZWCclRC3EoAA"
    wanted = b"dXNlcj10ZXN0QGNvbnRvc28ub25taWNyb3NvZnQuY29tAWF1dGg9QmVhcmVyIEV3QkFBbDNCQUFVRkZwVUFvN0ozVmUwYmpMQldaV0NjbFJDM0VvQUEBAQ=="
    assert sasl.response("xoauth2", "test@contoso.onmicrosoft.com", token, "h", 1) == wanted


def test_oauthbearer_is_the_rfcs_example() -> None:
    """RFC 7628, 4.1: user, host, port and token."""
    wanted = (
        b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"
    )
    made = sasl.oauthbearer("user@example.com", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==", "server.example.com", 143)
    assert made == wanted
    assert base64.b64decode(sasl.response("oauthbearer", "user@example.com", "t", "h", 1)).endswith(b"auth=Bearer t\x01\x01")


def test_a_name_that_would_end_the_header_is_escaped() -> None:
    """A comma or an equals sign in the user's name is no end of it (RFC 5801, 4)."""
    assert sasl.oauthbearer("a,b=c@x.example", "t", "h", 1).startswith(b"n,a=a=2Cb=3Dc@x.example,\x01")


@pytest.mark.parametrize(
    ("offered", "wanted", "chosen"),
    [
        (["login", "xoauth2"], None, "xoauth2"),
        (["oauthbearer"], None, "oauthbearer"),
        (["oauthbearer", "xoauth2"], None, "xoauth2"),
        (["oauthbearer", "xoauth2"], "oauthbearer", "oauthbearer"),
        (["xoauth2"], "oauthbearer", None),
        (["login", "plain"], None, None),
    ],
)
def test_which_mechanism(offered: list[str], wanted: str | None, chosen: str | None) -> None:
    """The account's own choice, else XOAUTH2 before OAUTHBEARER; never a password's."""
    assert sasl.chosen(offered, wanted) == chosen


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b'{"status":"401","schemes":"bearer","scope":"https://mail.google.com/"}', "401, scope https://mail.google.com/"),
        (b'{"status":401}', "401"),
        (b'{"status":"invalid_token"}', "invalid_token"),
        (b"[]", ""),
        (b"\xff\xfe", ""),
    ],
)
def test_what_a_challenge_tells(said: bytes, told: str) -> None:
    """Google's page and RFC 7628, 3.2.2; what is neither tells nothing."""
    assert sasl.challenge(base64.b64encode(said).decode()) == told
    assert sasl.challenge("no base64 at all!") == ""


def test_how_a_failure_is_dismissed() -> None:
    """An empty line for XOAUTH2, one control-A for OAUTHBEARER; else the server never says why it refused."""
    assert (sasl.dismissal("xoauth2"), base64.b64decode(sasl.dismissal("oauthbearer"))) == (b"", b"\x01")
