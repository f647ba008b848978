"""One connection to an SMTP server: TLS, sign-in, and mail after mail. aiosmtplib speaks; what its answers mean is decided here.

RFC 5321; STARTTLS: RFC 3207; SIZE: RFC 1870; AUTH: RFC 4954. Nothing is said in the clear but EHLO and STARTTLS. No mail's content is ever
sent twice: whoever calls `send` gets one answer for one try.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mailroom.errors import DeliveryInDoubt, NotSent, ProviderError, Refused
from mailroom.model.message import Receipt
from mailroom.model.token import Token
from mailroom.providers import _smtp_sasl as sasl
from mailroom.providers._smtp_answers import Reply, Stage, meaning
from mailroom.providers._smtp_letter import Letter
from mailroom.providers._smtp_servers import Server

if TYPE_CHECKING:
    import aiosmtplib

WHY = "its account sends by SMTP, which has one way for every mail"
NAME = "mailroom.local"  # in EHLO: a function has no name of its own, and asking for one costs a look-up


class Failed(Exception):
    """What went wrong on a connection, and whether further mails should not be pressed on this server now."""

    def __init__(self, error: ProviderError, *, stops: bool = False, stale: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.stops = stops
        self.stale = stale  # a kept connection that had ended before the mail was begun


class Connection:
    """`opened` makes one. `used` counts the mails that were tried on it."""

    def __init__(self, server: Server, smtp: aiosmtplib.SMTP, *, signs_in: bool) -> None:
        self.server = server
        self.used = 0
        self._smtp = smtp
        self._signs_in = signs_in
        self._content_begun = False

    @property
    def alive(self) -> bool:
        return self._smtp.is_connected

    @property
    def in_doubt(self) -> bool:
        """Whether a mail's content was begun and its answer has not come."""
        return self._content_begun

    async def send(self, letter: Letter) -> Receipt:
        """Raises Failed. Where the server still listens afterwards, it is ready for the next mail."""
        self._check(letter)
        fresh, self.used = self.used == 0, self.used + 1
        try:
            await self._envelope(letter, fresh=fresh)
            await self._do("data", b"DATA", letter=letter, hoped=354)
            reply = await self._content(letter)
        except Failed:
            await self._reset()
            raise
        return Receipt("smtp", letter.message_id, " ".join(reply.text.split())[:200] or None, why=WHY)

    async def sign_in(self, user: str, token: Token, wanted: str | None) -> None:
        """In two steps, since a command line of 512 bytes has no room for a token (RFC 4954, 4)."""
        name = sasl.chosen(self._smtp.server_auth_methods, wanted)
        if name is None:
            raise Failed(self._no_mechanism(wanted), stops=True)
        await self._do("auth", b"AUTH", name.upper().encode(), hoped=334)
        response = sasl.response(name, user, token.value, self.server.host, self.server.port)
        reply = await self._say("auth", response)
        if reply.code == 334:
            told = sasl.challenge(reply.text)
            reply = await self._say("auth", sasl.dismissal(name))
            reply = Reply(reply.code, f"{reply.text} ({told})" if told else reply.text)
        if reply.code != 235:
            raise self._failed("auth", reply)

    def close(self) -> None:
        """At once; a mail under way is lost or in doubt."""
        transport = self._smtp.transport
        self._smtp.close()
        if isinstance(transport, asyncio.Transport):
            transport.abort()

    def quit(self) -> None:
        """Takes leave without waiting for the answer."""
        if self._smtp.protocol is not None and self.alive:
            self._smtp.protocol.write(b"QUIT\r\n")
        self.close()

    def _check(self, letter: Letter) -> None:
        """What this server, by what it offers, can't take at all."""
        size, most = len(letter.content), self._largest()
        if size > most:
            detail = f"The mail has {size} bytes; {self.server.host} takes {most}."
            raise Failed(Refused("mail_too_large", detail, "Send less in one mail, or a link to it: base64 makes 4 bytes of 3."))
        if letter.utf8 and not self._smtp.supports_extension("smtputf8"):
            detail = f"An address of the mail is not ASCII, and {self.server.host} does not offer SMTPUTF8."
            raise Failed(Refused("smtputf8_missing", detail, "Use an address in ASCII."))
        if letter.eight_bit and not self._smtp.supports_extension("8bitmime"):
            detail = f"The ready mail has 8-bit content, and {self.server.host} does not offer 8BITMIME."
            raise Failed(Refused("8bitmime_missing", detail, "Encode its parts as quoted-printable or base64."))

    def _largest(self) -> int:
        """SIZE without a number, or with 0, sets no limit (RFC 1870, 4)."""
        told = self._smtp.esmtp_extensions.get("size", "").strip()
        return min(self.server.largest, int(told)) if told.isdecimal() and int(told) else self.server.largest

    async def _envelope(self, letter: Letter, *, fresh: bool) -> None:
        options = [f"SIZE={len(letter.content)}"] if self._smtp.supports_extension("size") else []
        options += ["BODY=8BITMIME"] if letter.eight_bit else []
        options += ["SMTPUTF8"] if letter.utf8 else []
        command = [f"FROM:<{letter.sender}>", *options]
        try:
            await self._do("mail", b"MAIL", *(part.encode() for part in command), letter=letter)
        except Failed as failed:
            gone = failed.error.code in ("server_closing", "connection_lost", "signed_out")
            raise Failed(failed.error, stops=failed.stops, stale=gone and not fresh) from failed
        for recipient in letter.recipients:
            await self._do("rcpt", b"RCPT", f"TO:<{recipient}>".encode(), letter=letter)

    async def _content(self, letter: Letter) -> Reply:
        protocol = self._smtp.protocol
        if protocol is None:
            raise Failed(NotSent("connection_lost", f"{self.server} closed the connection."), stops=True)
        self._content_begun = True
        with self._told("end"):
            protocol.write(letter.on_the_wire())
            found = await protocol.read_response(timeout=None)
        self._content_begun = False
        reply = Reply(found.code, found.message)
        if reply.code // 100 != 2:
            raise self._failed("end", reply, letter)
        return reply

    async def _do(self, stage: Stage, *command: bytes, letter: Letter | None = None, hoped: int = 250) -> Reply:
        reply = await self._say(stage, *command)
        if reply.code != hoped and not (hoped == 250 and reply.code in (251, 252)):
            raise self._failed(stage, reply, letter)
        return reply

    async def _say(self, stage: Stage, *command: bytes) -> Reply:
        with self._told(stage):
            found = await self._smtp.execute_command(*command, timeout=None)
        return Reply(found.code, found.message)

    @contextmanager
    def _told(self, stage: Stage) -> Iterator[None]:
        """A connection that is lost, or an answer that is none, as what that means at this stage."""
        import aiosmtplib

        try:
            yield
        except aiosmtplib.SMTPResponseException as error:  # what came back is no SMTP
            self.close()
            raise self._failed(stage, Reply(error.code, "what is no SMTP reply")) from error
        except (aiosmtplib.SMTPServerDisconnected, OSError) as error:
            self.close()
            if stage == "end":
                lost = f"{self.server} closed the connection after the mail's content had begun."
                raise Failed(DeliveryInDoubt("answer_lost", lost)) from error
            raise Failed(NotSent("connection_lost", f"{self.server} closed the connection at {stage.upper()}."), stops=True) from error
        except ValueError as error:  # aiosmtplib lets no control character into a command
            raise Failed(Refused("address_invalid", "An address of the mail has a control character.", "Correct the address.")) from error

    def _failed(self, stage: Stage, reply: Reply, letter: Letter | None = None) -> Failed:
        own = letter is None or letter.own_sender
        error, stops = meaning(stage, reply, self.server.host, signs_in=self._signs_in, own_sender=own)
        return Failed(error, stops=stops)

    async def _reset(self) -> None:
        """Ready for the next mail, or closed."""
        self._content_begun = False
        if not self.alive:
            return
        try:
            await self._do("mail", b"RSET")
        except Failed:
            self.close()

    def _no_mechanism(self, wanted: str | None) -> NotSent:
        offered = ", ".join(self._smtp.server_auth_methods) or "no sign-in"
        asked = f"not {wanted}" if wanted else "neither XOAUTH2 nor OAUTHBEARER"
        return NotSent("mechanism_missing", f"{self.server} offers {offered}, {asked}.", "Check the host, and the account's `mechanism`.")


async def opened(server: Server, tls: ssl.SSLContext, *, signs_in: bool) -> Connection:
    """Connected, and in TLS whose certificate was verified. Raises Failed with NotSent."""
    import aiosmtplib

    smtp = aiosmtplib.SMTP(
        hostname=server.host, port=server.port, use_tls=server.at_once, start_tls=False, tls_context=tls, local_hostname=NAME, timeout=None
    )
    connection = Connection(server, smtp, signs_in=signs_in)
    try:
        await _connected(connection, smtp, server)
    except BaseException:
        connection.close()
        raise
    return connection


async def _connected(connection: Connection, smtp: aiosmtplib.SMTP, server: Server) -> None:
    import aiosmtplib

    try:
        await smtp.connect()
        await smtp.ehlo()
        if not server.at_once:
            await _in_tls(smtp, server)
    except aiosmtplib.SMTPResponseException as error:
        raise connection._failed(_stage_of(error), Reply(error.code, error.message)) from error
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        raise Failed(_unconnected(server, error), stops=True) from error


async def _in_tls(smtp: aiosmtplib.SMTP, server: Server) -> None:
    if not smtp.supports_extension("starttls"):
        what = f"{server} does not offer STARTTLS, so nothing was sent: neither a token nor a mail goes in the clear."
        raise Failed(NotSent("starttls_missing", what, "Check host and port; something on the way may have taken it out."), stops=True)
    await smtp.starttls()
    await smtp.ehlo()


def _stage_of(error: aiosmtplib.SMTPResponseException) -> Stage:
    import aiosmtplib

    if isinstance(error, aiosmtplib.SMTPHeloError):
        return "ehlo"
    return "greeting" if isinstance(error, aiosmtplib.SMTPConnectError) else "starttls"


def _unconnected(server: Server, error: Exception) -> NotSent:
    cause = error if isinstance(error, ssl.SSLError) else error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        what = f"The certificate of {server} is not trusted: {cause.verify_message}"
        return NotSent(
            "certificate_untrusted",
            what.rstrip(".") + ".",
            "Check the host's name; a private authority's certificate goes to SSL_CERT_FILE.",
        )
    if isinstance(cause, ssl.SSLError):
        return NotSent("tls_failed", f"{server} and we agree on no TLS ({cause.reason}).", "It needs TLS 1.2 or later; check the port.")
    return NotSent(
        "provider_unreachable", f"{server} could not be reached ({type(cause or error).__name__}).", "Check host, port and network."
    )
