"""One client's session: aiosmtpd's SMTP with Exchange Online's words, sign-in by token, and faults at every step.

Replies as in learn.microsoft.com/exchange/troubleshoot/send-emails/smtp-submission-improvements and public traces. A fault's `path` is the
step: connect, ehlo, starttls, auth, mail, rcpt (both with their arguments: "rcpt to:<ann@"), data (its `cut` comes in the middle of the
content) or end (all content is there).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiosmtpd.smtp import MISSING, SMTP, AuthResult, Envelope, Session, TLSSetupException

from sandbox.directory import OUTLOOK, Directory
from sandbox.faults import Fault, Faults
from sandbox.smtp import access, sasl
from sandbox.smtp.mailman import Mailman

_log = logging.getLogger("sandbox.smtp")
SIZE = 157_286_400  # 150 MB, Exchange Online's most
CONNECTIONS = 3  # of one mailbox at a time
STEPS = ("EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA")
FIT = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@.]+")


class _Session(Session):
    login_data = None  # aiosmtpd's own warns of itself whenever somebody signs in


@dataclass(slots=True)
class Service:
    """What all sessions share. Without `signs_in` it is a relay. `challenges` tells a failed XOAUTH2 its reason first, as Google does."""

    directory: Directory
    faults: Faults
    mailman: Mailman
    tls: ssl.SSLContext
    signs_in: bool = True
    challenges: bool = False
    size: int = SIZE
    smtputf8: bool = True
    by_certificate: bool = False  # a relay's clients are known by theirs
    sessions: set[ExchangeSession] = field(default_factory=set)
    opened: int = 0  # connections ever
    closed: bool = False  # whoever still comes is sent away
    dismissed: list[Any] = field(default_factory=list)  # what clients answered to the reason of their failure
    signed_in: list[str] = field(default_factory=list)  # the mechanism of each sign-in that succeeded


class ExchangeSession(SMTP):
    line_length_limit = 32_768  # of what is read: a token is longer than any line of a mail
    command_size_limit = 12_288  # RFC 4954, 4

    def __init__(self, service: Service) -> None:
        self.service = service
        self.bearer: sasl.Bearer | None = None
        super().__init__(
            self,
            data_size_limit=service.size,
            enable_SMTPUTF8=service.smtputf8,
            hostname="AM0PR01CA0001.outlook.office365.example",
            ident="Microsoft ESMTP MAIL Service ready",
            tls_context=service.tls,
            require_starttls=True,
            auth_required=service.signs_in,
            auth_exclude_mechanism=["LOGIN", "PLAIN"],
        )
        for name in STEPS:
            self._smtp_methods[name] = self._struck(name, self._smtp_methods[name])

    # the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self not in self.service.sessions:
            self.service.opened += 1
            self.service.sessions.add(self)
        super().connection_made(transport)
        if self.service.closed:
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self.service.sessions.discard(self)
        super().connection_lost(error)

    @property
    def task(self) -> asyncio.Future[None] | None:
        return self._handler_coroutine

    def abort(self) -> None:
        """As if the cable were cut."""
        transport = self._original_transport or self.transport
        if isinstance(transport, asyncio.Transport):
            transport.abort()

    def _certificate(self) -> bool:
        return bool(self.transport and self.transport.get_extra_info("peercert"))

    def _create_session(self) -> Session:
        return _Session(self.loop)

    async def smtp_STARTTLS(self, arg: str) -> None:
        """A connection that is cut during the handshake without an error: asyncio then wakes who waits for TLS as if it were there, and
        tells nobody that the connection is lost (sslproto.SSLProtocol.connection_lost). Whoever read on would wait for ever.
        """
        await super().smtp_STARTTLS(arg)
        if self._tls_protocol and not (self.session and self.session.ssl):
            raise TLSSetupException

    async def _handle_client(self) -> None:
        try:
            if not self._tls_protocol and await self._strikes("connect"):
                return
            await super()._handle_client()
        except ConnectionError:  # the client went in the middle of something
            self.abort()

    async def handle_exception(self, error: Exception) -> str:
        """aiosmtpd would ask its handler, which is this very object, and that one again. A client that ends the handshake is no error."""
        if not isinstance(error, TLSSetupException):
            _log.exception("An SMTP session failed", exc_info=error)
        self.abort()
        return "421 4.3.2 Service not available"

    # signing in

    async def auth_XOAUTH2(self, _: SMTP, args: list[str]) -> AuthResult:
        return await self._sign_in("XOAUTH2", args, sasl.xoauth2, told=self.service.challenges)

    async def auth_OAUTHBEARER(self, _: SMTP, args: list[str]) -> AuthResult:
        return await self._sign_in("OAUTHBEARER", args, sasl.oauthbearer, told=True)

    async def _sign_in(self, name: str, args: list[str], read: Callable[[bytes], sasl.Bearer | None], *, told: bool) -> AuthResult:
        if len(args) > 1:
            return self._denied("501 5.5.4 Unrecognized authentication type")
        response = await self.challenge_auth("")
        bearer = read(response) if isinstance(response, bytes) else None
        if response is MISSING:
            return AuthResult(success=False, handled=True)
        if bearer is None or not access.signed_in(self.service.directory, bearer):
            if told:
                self.service.dismissed.append(await self.challenge_auth(sasl.refusal(f"{OUTLOOK}/SMTP.Send")))
            return self._denied("535 5.7.3 Authentication unsuccessful [AM0PR01CA0001.eurprd01.prod.exchangelabs.example]")
        others = [one for one in self.service.sessions if one.bearer and one.bearer.user.lower() == bearer.user.lower()]
        if len(others) >= CONNECTIONS:
            return self._denied(
                "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending for more information."
            )
        self.bearer = bearer
        self.service.signed_in.append(name)
        return AuthResult(success=True, auth_data=bearer.user)

    def _denied(self, reply: str) -> AuthResult:
        return AuthResult(success=False, handled=False, message=reply)

    async def check_auth_needed(self, caller_method: str) -> bool:
        if self._auth_required and self.session is not None and not self.session.authenticated:
            await self.push("530 5.7.57 Client not authenticated to send mail. [AM0PR01CA0001.eurprd01.prod.exchangelabs.example]")
            return True
        return False

    # mail by mail

    async def handle_EHLO(self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]) -> list[str]:
        session.host_name = hostname
        hidden = {"250-AUTH"} if not self.service.signs_in else set()
        if any(fault.answer == "strip" for fault in self._now_striking):
            hidden = {"250-STARTTLS"}
            responses.insert(1, "250-AUTH XOAUTH2 OAUTHBEARER")  # whoever took STARTTLS out would like to see a token
        return [line for line in responses if line.split(" ")[0] not in hidden]

    async def handle_MAIL(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:
        if self.service.by_certificate and not self._certificate():
            return "550 5.7.64 TenantAttribution; Relay Access Denied [AM0PR01FT001.eop-eur01.prod.protection.outlook.example]"
        envelope.mail_from = address
        return "250 2.1.0 Sender OK"

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:
        if not FIT.fullmatch(address):
            return "501 5.1.3 Invalid address"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Recipient OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        fault = self.service.faults.strike("smtp", "END", "end")
        if fault is None:
            return self._submit(envelope, 0.0)
        answer = self._submit(envelope, fault.lag) if fault.after_accepting or fault.answer is None else ""
        await self._late(fault)
        if fault.answer in ("cut", "hang"):
            await self._gone(fault)
        return answer if fault.answer is None else _reply(fault)

    def _submit(self, envelope: Envelope, lag: float) -> str:
        raw = envelope.original_content or b""
        mailbox = self.bearer.user if self.bearer else str(envelope.mail_from)
        for sender in dict.fromkeys((str(envelope.mail_from), self.service.mailman.sender(raw))):
            if self.bearer and not access.may_send_as(self.service.directory, self.bearer.token, mailbox, sender):
                return f"554 5.2.252 SendAsDenied; {mailbox} not allowed to send as {sender}"
        message_id = self.service.mailman.submit(mailbox, envelope.rcpt_tos, raw, keep=self.bearer is not None, lag=lag)
        return f"250 2.0.0 OK {message_id} [Hostname=AM0PR01MB0001.eurprd01.prod.exchangelabs.example]"

    # faults

    _now_striking: tuple[Fault, ...] = ()

    def _struck(self, name: str, method: Callable[[str], Awaitable[Any]]) -> Callable[[str], Awaitable[Any]]:
        async def step(arg: str) -> None:
            if name == "DATA" or not await self._strikes(f"{name.lower()} {arg or ''}".strip()):
                await (self._data(arg, method) if name == "DATA" else method(arg))

        return step

    async def _strikes(self, step: str) -> bool:
        """Whether the client has had its answer; else the step goes on as ever."""
        self._now_striking = ()
        fault = self.service.faults.strike("smtp", step.split(" ")[0].upper(), step)
        if fault is None:
            return False
        await self._late(fault)
        self._now_striking = (fault,)
        if fault.answer in (None, "strip"):
            return False
        if fault.answer in ("cut", "hang"):
            await self._gone(fault)
        await self.push(_reply(fault))
        return True

    async def _data(self, arg: str, method: Callable[[str], Awaitable[Any]]) -> None:
        fault = self.service.faults.strike("smtp", "DATA", "data")
        if fault is None or fault.answer is None:
            await self._late(fault)
            await method(arg)
        elif fault.answer in ("cut", "hang"):
            await self.push("354 Start mail input; end with <CRLF>.<CRLF>")
            await self._reader.readuntil(b"\r\n")
            await self._gone(fault)
        else:
            await self.push(_reply(fault))

    async def _late(self, fault: Fault | None) -> None:
        if fault and fault.delay:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.service.faults.cleared.wait(), fault.delay)

    async def _gone(self, fault: Fault) -> None:
        """Cut at once, or hanging until the faults are cleared; either ends this task with the connection."""
        if fault.answer == "hang":
            await self.service.faults.cleared.wait()
        self.abort()
        await asyncio.get_running_loop().create_future()


def _reply(fault: Fault) -> str:
    return "\x00 no reply of SMTP" if fault.answer == "garbage" else str(fault.answer)
