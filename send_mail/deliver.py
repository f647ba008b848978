"""How an accepted mail is sent once: claim, reconcile, send inside the fence, settle. For queue and HTTP, one code path.

The ledger says what is owed; a ticket is only a nudge. docs/architecture.md tells the protocol and why each step is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from mailroom.errors import (
    AccountFault,
    AuthorityDown,
    DeliveryInDoubt,
    LedgerNewer,
    MailroomError,
    NotSent,
    ProviderError,
    Throttled,
    TokenRejected,
)
from mailroom.events import record
from mailroom.model.account import Account, Timing
from mailroom.model.lane import Permit
from mailroom.model.message import Message, Outgoing, Receipt
from mailroom.model.slice import OWED, Mail, Ref, Slice
from mailroom.model.token import Token
from mailroom.ports import Keyring, Sender, Store
from mailroom.storage.lanes import StoredLanes
from mailroom.storage.ledger import StoredLedger
from mailroom.storage.outbox import StoredOutbox
from send_mail.claim import Claim, fence
from send_mail.outcome import Answer, Outcome, rest
from send_mail.prepare import Prepare
from send_mail.tickets import Tickets


@dataclass(frozen=True, slots=True)
class Deliver:
    accounts: Mapping[str, Account]
    timing: Timing
    store: Store
    ledger: StoredLedger
    lanes: StoredLanes
    outbox: StoredOutbox
    tickets: Tickets
    keyring: Keyring
    sender_of: Callable[[Account], Sender]
    monotonic: Callable[[], float]
    new_nonce: Callable[[], str]

    async def work(self, ref: Ref) -> Slice | None:
        """One ticket. The slice as it stands afterwards; None when there is no such slice, or none that this version can read."""
        try:
            return await self._work(ref)
        except LedgerNewer as newer:  # whoever can read it gets a ticket of the sweep's
            record("ledger.newer", warn=True, account=ref.account, unit=ref.unit, detail=newer.detail)
            return None

    async def _work(self, ref: Ref) -> Slice | None:
        account, found = self.accounts.get(ref.account), await self.ledger.read(ref)
        if found is None or account is None:
            record("ticket.without_slice" if account else "ticket.without_account", warn=True, account=ref.account, unit=ref.unit)
            return found
        found, now = found.lapsed(self.store.now(), self.timing.grace), self.store.now()
        if not found.owed:
            return found
        if found.due > now:
            await self.tickets.put_off(found, found.due)
            return found
        claim = await self.take(account, found, single=not found.batch)
        if isinstance(claim, float):
            await self.tickets.put_off(found, claim)
            return found
        return await self.attempt(claim)

    async def take(self, account: Account, found: Slice, *, single: bool, born: bool = False) -> Claim | float:
        """The slice claimed, with the lane's permit; or the time at which to come again. A `born` slice is not in the ledger yet."""
        started, now, nonce = self.monotonic(), self.store.now(), self.new_nonce()
        until = now + self.timing.claim
        due = [mail for mail in found.mails if mail.status in OWED and mail.due <= now]
        permit, recipients = Permit(nonce, 1 if len(due) == 1 else account.traits.slice_weight, until), sum(mail.recipients for mail in due)
        granted = await self.lanes.take(account, permit, len(due), single=single, recipients=recipients)
        if isinstance(granted, float):
            return granted
        ours = found.claimed(nonce, now, until) if born else await self.ledger.claim(found, nonce, until)
        if ours is None:
            await self.lanes.release(account, nonce, unsent=recipients)
            return self.store.now() + 1.0
        return Claim(account, found, ours, fence(started, self.timing), granted.weight)

    async def attempt(self, claim: Claim, messages: Sequence[Message] | None = None) -> Slice:
        """Reconcile, send, settle; then the lane's next tickets."""
        outcomes, answers = await self._outcomes(claim, messages)
        seconds, why = max(((rest(answer, self.timing), getattr(answer, "code", "")) for answer in answers.values()), default=(0.0, ""))
        settled = await self.tickets.settle(claim.ours, outcomes)
        not_before = self.store.now() + seconds if seconds else 0.0
        sent_to = sum(claim.ours.mails[at].recipients for at, one in answers.items() if not isinstance(one, NotSent | TokenRejected))
        await self.lanes.release(claim.account, claim.ours.claim, not_before=not_before, why=why, unsent=claim.recipients - sent_to)
        for at in claim.mine:
            self._tell(claim.account, settled.slice_.mails[at], answers.get(at))
        await self.tickets.give(settled, not_before)
        return settled.slice_

    async def _outcomes(self, claim: Claim, messages: Sequence[Message] | None) -> tuple[dict[int, Mail], dict[int, Answer]]:
        """What became of each mail that we claimed, and the provider's answer to each that we tried to send."""
        messages = messages or await self.outbox.get(claim.ours.ref)
        if messages is None:
            return {at: self._outcome(claim).bodiless(at) for at in claim.mine}, {}
        unasked = frozenset(at for at in claim.mine if not claim.account.can_be_asked_for(messages[at]))
        claim, in_header = replace(claim, unasked=unasked), claim.account.asked is not None
        outgoing = {
            at: Outgoing(claim.ours.mails[at].stamp, messages[at], accepted=claim.ours.created, in_header=in_header) for at in claim.mine
        }
        outcomes = await self._reconcile(claim, outgoing)
        outcomes |= self._outcome(claim).expired([at for at in outgoing if at not in outcomes])
        outcomes |= await self._cancelled(claim, [at for at in outgoing if at not in outcomes])
        going = {at: mail for at, mail in outgoing.items() if at not in outcomes}
        answers = await self._send(claim, going) if going else {}
        outcome = self._outcome(claim)
        outcomes |= {at: outcome.answered(at, answer) for at, answer in answers.items()}
        return outcomes, answers

    async def _cancelled(self, claim: Claim, going: Sequence[int]) -> dict[int, Mail]:
        """Who cancelled the batch has taken back what nobody had claimed; what was claimed then comes here when it would go once more."""
        if not claim.before.batch or not going:
            return {}
        unit, again = claim.ours.ref.unit, any(claim.before.mails[at].attempt for at in going)
        if again:
            await self.tickets.goes(unit)
        return self._outcome(claim).cancelled(going) if self.tickets.is_cancelled(unit) else {}

    async def _reconcile(self, claim: Claim, outgoing: dict[int, Outgoing]) -> dict[int, Mail]:
        """What was in doubt is asked for. What is not found may go again, and is absent here."""
        doubtful = [at for at in claim.mine if claim.before.mails[at].doubt_since is not None]
        asked, hold = [at for at in doubtful if claim.can_ask(at)], claim.account.in_doubt == "hold"
        held = {at: self._outcome(claim).unaskable(at) for at in doubtful if hold and at not in asked}
        if not asked:
            return held
        try:
            found = await self._ask(claim, [outgoing[at] for at in asked])
        except (AccountFault, ProviderError) as fault:
            return held | {at: self._outcome(claim).unanswered(at, fault) for at in asked}
        pairs = zip(asked, found, strict=True)
        return held | {at: claim.ours.mails[at].sent(receipt) for at, receipt in pairs if receipt is not None}

    async def _ask(self, claim: Claim, mails: Sequence[Outgoing]) -> list[Receipt | None]:
        """Who sent them; or who sees what that one sent, in whose lane the question needs a permit of its own."""
        asked = claim.account.asked
        if asked is None:
            return await self._asked(claim, claim.account, mails, claim.at_once)
        permit = await self.lanes.join(asked, Permit(claim.ours.claim, 1, claim.ours.claim_until))
        if isinstance(permit, float):
            raise NotSent("mailbox_busy", "Others are at work on the mailbox.", retry_after=max(1.0, permit - self.store.now()))
        try:
            return await self._asked(claim, asked, mails, permit.weight)
        finally:
            await self.lanes.release(asked, permit.nonce)

    async def _asked(self, claim: Claim, account: Account, mails: Sequence[Outgoing], at_once: int) -> list[Receipt | None]:
        try:
            token = await self._token(claim, account)
            try:
                return await self._question(account, mails, token, at_once)
            except TokenRejected:
                await self.keyring.bar(account, token)
            return await self._question(account, mails, await self._token(claim, account), at_once)
        except Throttled as wait:
            await self.lanes.rest(account, self.store.now() + rest(wait, self.timing), wait.code)
            raise

    async def _token(self, claim: Claim, account: Account) -> Token:
        """Within the fence, or not at all: a vault or an authority that hangs shall not hold the mails, nor who waits for the answer."""
        try:
            async with asyncio.timeout(max(0.0, claim.fence - self.monotonic())):
                return await self.keyring.token(account)
        except TimeoutError as error:
            raise AuthorityDown("token_timeout", "No token could be had in time.", "Run `mailroom check`: it tells who hangs.") from error

    async def _question(self, account: Account, mails: Sequence[Outgoing], token: Token, at_once: int) -> list[Receipt | None]:
        try:
            async with asyncio.timeout(self.timing.call):
                return await self.sender_of(account).ask(account, mails, token, at_once)
        except TimeoutError as error:
            raise NotSent("question_timeout", "The provider did not answer in time whether the mail was sent.") from error

    async def _send(self, claim: Claim, going: dict[int, Outgoing]) -> dict[int, Answer]:
        try:
            token = await self._token(claim, claim.account)
        except AccountFault as fault:
            return dict.fromkeys(going, _not_sent(fault))
        answers = await self._try(claim, going, token)
        rejected = {at: going[at] for at, answer in answers.items() if isinstance(answer, TokenRejected)}
        if rejected:
            await self.keyring.bar(claim.account, token)
            answers |= await self._again(claim, rejected)
        return answers

    async def _again(self, claim: Claim, rejected: dict[int, Outgoing]) -> dict[int, Answer]:
        """After a 401 nothing was sent: one new token, the fence again, one more call."""
        try:
            token = await self._token(claim, claim.account)
        except AccountFault as fault:
            return dict.fromkeys(rejected, _not_sent(fault))
        return await self._try(claim, rejected, token)

    async def _try(self, claim: Claim, going: dict[int, Outgoing], token: Token) -> dict[int, Answer]:
        """First what takes long and sends nothing, then the call."""
        prepare = Prepare(self.timing, self.store, self.ledger, self.lanes, self.sender_of(claim.account), self.monotonic)
        claim, ready, answers = await prepare(claim, going, token)
        return answers | (await self._call(claim, ready, token) if ready else {})

    async def _call(self, claim: Claim, going: dict[int, Outgoing], token: Token) -> dict[int, Answer]:
        """The fence, and right behind it the call. Below here nothing ever repeats a POST."""
        if self.monotonic() > claim.fence:
            return dict.fromkeys(going, NotSent("too_late", "The claim would have ended before the call.", retry_after=1.0))
        try:
            async with asyncio.timeout(self.timing.call):
                sender = self.sender_of(claim.account)
                answers = await sender.send(claim.account, list(going.values()), token, claim.at_once)
        except TimeoutError:
            return dict.fromkeys(going, DeliveryInDoubt("call_timeout", "The provider did not answer in time."))
        return dict(zip(going, answers, strict=True))

    def _outcome(self, claim: Claim) -> Outcome:
        return Outcome(claim, self.timing, self.store.now())

    def _tell(self, account: Account, mail: Mail, answer: Answer | None) -> None:
        """The activity log. `attempt` counts claims, so a second one is worth a look."""
        ids = {"request_id": answer.request_id, "client_request_id": answer.client_request_id} if answer else {}
        facts = {"account": account.name, "id": mail.id, "attempt": mail.attempt, "code": mail.code}
        if mail.code == "throttled":
            record("mail.throttled", warn=True, **facts, seconds=round(max(0.0, mail.due - self.store.now())), **ids)
        record(f"mail.{mail.status}", warn=mail.status != "sent", **facts, path=mail.path, why=mail.why, **ids)


def _not_sent(fault: MailroomError) -> NotSent:
    return NotSent(fault.code, fault.detail, fault.next_step, retry_after=fault.retry_after)


def nonces(prefix: str) -> Callable[[], str]:
    """Nonces of one process: a random prefix and a count."""
    numbers = count()
    return lambda: f"{prefix}{next(numbers):06x}"
