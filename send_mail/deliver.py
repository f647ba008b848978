"""How an accepted mail is sent once: claim, reconcile, send inside the fence, settle. For queue and HTTP, one code path.

The ledger says what is owed; a ticket is only a nudge. docs/architecture.md tells the protocol and why each step is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from mailroom.errors import (
    AccountFault,
    AuthorityDown,
    DeliveryInDoubt,
    LedgerNewer,
    MailroomError,
    NotSent,
    ProviderError,
    Refused,
    StorageDown,
    Throttled,
    TokenRejected,
)
from mailroom.events import record
from mailroom.model.account import Account, Timing
from mailroom.model.lane import Permit
from mailroom.model.message import Message, Outgoing, Receipt
from mailroom.model.slice import OWED, Mail, Ref, Slice, Status
from mailroom.model.token import Token
from mailroom.ports import Keyring, Sender, Store
from mailroom.storage.lanes import StoredLanes
from mailroom.storage.ledger import StoredLedger
from mailroom.storage.ledger_rows import Marker
from mailroom.storage.outbox import StoredOutbox
from send_mail.claim import Claim, fence
from send_mail.prepare import Prepare

KNOWN_FOR = 20.0  # seconds for which a batch that was cancelled elsewhere may go on giving tickets here
KNOWN_BATCHES = 10_000
WINDOW = 4  # tickets of one lane alive at a time

CANCELLED = NotSent("batch_cancelled", "The batch was cancelled before the mail went.", "Send it in another batch, if it shall go.")

Answer = Receipt | ProviderError


@dataclass(frozen=True, slots=True)
class Deliver:
    accounts: Mapping[str, Account]
    timing: Timing
    store: Store
    ledger: StoredLedger
    lanes: StoredLanes
    outbox: StoredOutbox
    keyring: Keyring
    sender_of: Callable[[Account], Sender]
    monotonic: Callable[[], float]
    new_nonce: Callable[[], str]
    _known: dict[str, tuple[float, bool]] = field(default_factory=dict)

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
            await self._put_off(found, found.due)
            return found
        claim = await self.take(account, found, single=not found.batch)
        if isinstance(claim, float):
            await self._put_off(found, claim)
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
        rest, why = max(((self._rest(answer), getattr(answer, "code", "")) for answer in answers.values()), default=(0.0, ""))
        settled, heir, full = await self._settle(claim, outcomes)
        not_before = self.store.now() + rest if rest else 0.0
        sent_to = sum(claim.ours.mails[at].recipients for at, one in answers.items() if not isinstance(one, NotSent | TokenRejected))
        await self.lanes.release(claim.account, claim.ours.claim, not_before=not_before, why=why, unsent=claim.recipients - sent_to)
        for at in claim.mine:
            self._tell(claim.account, settled.mails[at], answers.get(at))
        if settled.owed:
            await self.outbox.nudge(settled.ref, max(settled.due, not_before))
        if heir:
            await self.outbox.nudge(heir.ref, max(self._first(heir), not_before))
        if not full:
            await self.refill(claim.account.name)
        return settled

    async def _settle(self, claim: Claim, outcomes: dict[int, Mail]) -> tuple[Slice, Marker | None, bool]:
        """The settled slice; the one that has our ticket's place by the same write, if one waited; whether the lane's window is full."""
        others = await self._others(claim)
        waiting = [marker for marker in others if not marker.due]
        places = WINDOW - len(others) + len(waiting) - claim.ours.settled(outcomes).owed
        if waiting and places > 0:
            settled = await self.ledger.settle_and_pass(claim.ours, outcomes, waiting[0], self._first(waiting[0]))
            if settled:
                return settled, waiting[0], places == 1 or len(waiting) == 1
        return await self.ledger.settle(claim.ours, outcomes), None, not waiting or places <= 0

    async def _others(self, claim: Claim) -> list[Marker]:
        """The lane's oldest owed slices beside ours. Without them settling goes on; the sweep will see to their tickets."""
        try:
            found = await self.ledger.owed(claim.account.name, WINDOW + 1, self.committed)
        except StorageDown:
            return []
        return [marker for marker in found if marker.ref != claim.ours.ref]

    def _first(self, marker: Marker) -> float:
        """When its first ticket shows."""
        return max(marker.created, self.store.now()) if marker.scheduled else self.store.now()

    async def refill(self, account: str) -> None:
        """Tickets for the lane's oldest slices, so that at most WINDOW of them are alive."""
        for marker in await self.ledger.owed(account, WINDOW, self.committed):
            due = self._first(marker)
            if not marker.due and await self.ledger.give_ticket(marker, due, again=False):
                await self.outbox.nudge(marker.ref, due)

    async def committed(self, marker: Marker) -> bool:
        """Whether the batch that it is of was, and is not cancelled; known for a while, for this is asked of each of its slices."""
        unit = marker.ref.unit
        until, counts = self._known.get(unit, (0.0, False))
        return counts if until > self.monotonic() else await self.goes(unit)

    async def goes(self, unit: str) -> bool:
        """As it stands in storage by now."""
        batch = await self.ledger.batch(unit)
        if batch is None:
            return False
        if len(self._known) >= KNOWN_BATCHES:
            self._known.clear()
        self._known[unit] = self.monotonic() + KNOWN_FOR, not batch.cancelled
        return not batch.cancelled

    async def _put_off(self, found: Slice, due: float) -> None:
        """A new ticket before the old one is deleted; never mere success, for whoever holds the claim may be dead.

        The marker tells the sweep that this ticket lives; but under a claim it stays, so that the sweep counts the claimants that die.
        """
        await self.outbox.nudge(found.ref, due)
        if not found.claim:
            await self.ledger.put_off(found, due)

    async def _outcomes(self, claim: Claim, messages: Sequence[Message] | None) -> tuple[dict[int, Mail], dict[int, Answer]]:
        """What became of each mail that we claimed, and the provider's answer to each that we tried to send."""
        messages = messages or await self.outbox.get(claim.ours.ref)
        if messages is None:
            return {at: self._bodiless(claim, at) for at in claim.mine}, {}
        outgoing = {at: Outgoing(claim.ours.mails[at].stamp, messages[at], accepted=claim.ours.created) for at in claim.mine}
        outcomes = await self._reconcile(claim, outgoing)
        outcomes |= self._expired(claim, [at for at in outgoing if at not in outcomes])
        outcomes |= await self._cancelled(claim, [at for at in outgoing if at not in outcomes])
        going = {at: mail for at, mail in outgoing.items() if at not in outcomes}
        answers = await self._send(claim, going) if going else {}
        outcomes |= {at: self._settled(claim, at, answer) for at, answer in answers.items()}
        return outcomes, answers

    def _expired(self, claim: Claim, going: Sequence[int]) -> dict[int, Mail]:
        """Of those that would go now. Who may have been sent, and nobody can be asked, is for a person.

        A batch's mail that was not tried yet has waited for its turn, which its mailbox's pace may bring after days.
        """
        if claim.ours.created + self.timing.give_up > self.store.now():
            return {}
        why = Refused("expired", "The mail could not be sent within the time allowed.", "See the account's events for the reason.")
        late = [at for at in going if claim.before.mails[at].attempt or not claim.before.batch]
        return self._ended(claim, late, "refused", why)

    def _ended(self, claim: Claim, going: Sequence[int], status: Status, why: MailroomError) -> dict[int, Mail]:
        mails = {at: claim.before.mails[at] for at in going}
        unsent = {at: mail.doubt_since is None or claim.account.can_be_asked for at, mail in mails.items()}
        return {at: mail.ended(status if unsent[at] else "held", why) for at, mail in mails.items()}

    async def _cancelled(self, claim: Claim, going: Sequence[int]) -> dict[int, Mail]:
        """Who cancelled the batch has taken back what nobody had claimed; what was claimed then comes here when it would go once more."""
        if not claim.before.batch or not going:
            return {}
        unit, again = claim.ours.ref.unit, any(claim.before.mails[at].attempt for at in going)
        if again:
            await self.goes(unit)
        return {} if self._known.get(unit, (0.0, True))[1] else self._ended(claim, going, "cancelled", CANCELLED)

    async def _reconcile(self, claim: Claim, outgoing: dict[int, Outgoing]) -> dict[int, Mail]:
        """What was in doubt is asked for. What is not found may go again, and is absent here."""
        doubtful = [at for at in claim.mine if claim.before.mails[at].doubt_since is not None]
        if not doubtful:
            return {}
        if not claim.account.can_be_asked:
            return {at: self._unaskable(claim, at) for at in doubtful if claim.account.in_doubt == "hold"}
        try:
            found = await self._ask(claim, [outgoing[at] for at in doubtful])
        except (AccountFault, ProviderError) as fault:
            return {at: self._still_doubtful(claim, at, fault) for at in doubtful}
        pairs = zip(doubtful, found, strict=True)
        return {at: claim.ours.mails[at].sent(receipt) for at, receipt in pairs if receipt is not None}

    async def _ask(self, claim: Claim, mails: Sequence[Outgoing]) -> list[Receipt | None]:
        account, token = claim.account, await self._token(claim)
        sender = self.sender_of(account)
        try:
            return await self._question(sender, claim, mails, token)
        except TokenRejected:
            await self.keyring.bar(account, token)
            return await self._question(sender, claim, mails, await self._token(claim))

    async def _token(self, claim: Claim) -> Token:
        """Within the fence, or not at all: a vault or an authority that hangs shall not hold the mails, nor who waits for the answer."""
        try:
            async with asyncio.timeout(max(0.0, claim.fence - self.monotonic())):
                return await self.keyring.token(claim.account)
        except TimeoutError as error:
            raise AuthorityDown("token_timeout", "No token could be had in time.", "Run `mailroom check`: it tells who hangs.") from error

    async def _question(self, sender: Sender, claim: Claim, mails: Sequence[Outgoing], token: Token) -> list[Receipt | None]:
        try:
            async with asyncio.timeout(self.timing.call):
                return await sender.ask(claim.account, mails, token, claim.at_once)
        except TimeoutError as error:
            raise NotSent("question_timeout", "The provider did not answer in time whether the mail was sent.") from error

    async def _send(self, claim: Claim, going: dict[int, Outgoing]) -> dict[int, Answer]:
        try:
            token = await self._token(claim)
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
            token = await self._token(claim)
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

    def _settled(self, claim: Claim, at: int, answer: Answer) -> Mail:
        mail, now = claim.ours.mails[at], self.store.now()
        if isinstance(answer, Receipt):
            return mail.sent(answer)
        if isinstance(answer, Refused):
            return mail.ended("refused", answer)
        if isinstance(answer, NotSent | TokenRejected):
            return mail.pending(now + self._rest(answer), answer)
        if claim.account.can_be_asked:
            return mail.doubtful(now, now + max(self.timing.grace, answer.retry_after or 0.0), answer)
        if isinstance(answer, Throttled):  # nobody can be asked: a 429 then counts as not sent
            return mail.pending(now + self._rest(answer), answer)
        return mail.ended("held", answer) if claim.account.in_doubt == "hold" else mail.pending(now + self.timing.grace, answer)

    def _still_doubtful(self, claim: Claim, at: int, fault: MailroomError) -> Mail:
        mail, now = claim.before.mails[at], self.store.now()
        if claim.ours.created + self.timing.give_up <= now:
            return mail.ended("held", fault)
        return mail.doubtful(mail.doubt_since or now, now + (fault.retry_after or self.timing.pause), fault)

    def _unaskable(self, claim: Claim, at: int) -> Mail:
        why = DeliveryInDoubt("cannot_ask", "The mail may have been sent, and this account can't be asked.", "Look, then decide by hand.")
        return claim.before.mails[at].ended("held", why)

    def _bodiless(self, claim: Claim, at: int) -> Mail:
        why = Refused("body_missing", "The mail's body is no longer in storage.", "Send the mail again as a new one.")
        mail = claim.before.mails[at]
        return mail.ended("refused" if mail.doubt_since is None else "held", why)

    def _rest(self, answer: Answer) -> float:
        """How long the lane rests after this answer: faults of the account and its provider pause it, those of the mail don't."""
        if isinstance(answer, NotSent | TokenRejected | Throttled):
            return self.timing.pause if answer.retry_after is None else answer.retry_after
        return 0.0

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
