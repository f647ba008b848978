"""Tickets that ask for a mailbox to be synced: planned for each, read strictly, poisoned once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mailroom.errors import BadInput
from mailroom.model.account import Account
from receive_mail.tickets import addressee, plan, poison, ticket
from tests.fakes import FakeStore
from tests.sending import PROFILE


def account(name: str, **fields: Any) -> Account:
    return Account(name=name, provider="graph", address=f"{name}@x.example", profile=PROFILE, **fields)


ACCOUNTS = {one.name: one for one in (account("billing", receive=True), account("support", receive=True), account("news"))}


async def test_each_receiving_mailbox_gets_a_ticket() -> None:
    """One for each account that receives, none for others, and each is read as that account."""
    store = FakeStore()
    await plan(store, ACCOUNTS)
    assert [addressee(found.body, ACCOUNTS).name for found in await store.receive("mail-sync")] == ["billing", "support"]


async def test_tickets_do_not_pile_up() -> None:
    """While many still wait no new ones are put, else a slow hour would be followed by a day of asking in vain."""
    store = FakeStore()
    for _ in range(10):
        await plan(store, ACCOUNTS)
    assert await store.queue_length("mail-sync") <= 6


async def test_nobody_to_sync() -> None:
    """Without a receiving account the timer does nothing at all."""
    store = FakeStore()
    await plan(store, {"news": ACCOUNTS["news"]})
    assert not store.calls


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"no json", "sync_ticket_invalid"),
        (b"\xff\xfe", "sync_ticket_invalid"),
        (b'{"account": 7}', "sync_ticket_invalid"),
        (b'{"account": "billing", "more": 1}', "sync_ticket_invalid"),
        (b'{"account": "nobody"}', "account_unknown"),
        (ticket(ACCOUNTS["news"]), "account_unknown"),
    ],
)
async def test_what_is_no_ticket_is_poisoned_once(body: bytes, code: str) -> None:
    """With the reason and the original, for a person to look at."""
    store = FakeStore()
    with pytest.raises(BadInput) as caught:
        addressee(body, ACCOUNTS)
    assert caught.value.code == code
    assert caught.value.next_step
    await poison(store, body, caught.value)
    [found] = await store.receive("mail-sync-poison")
    said = json.loads(found.body)
    assert said["reason"].startswith(code)
    assert said["original"] == body.decode("utf-8", "replace")


async def test_a_poisoned_message_fits_the_queue() -> None:
    """However large the original and its escapes."""
    store = FakeStore()
    await poison(store, b"\x01" * 60_000, BadInput("sync_ticket_invalid", "\x01" * 60_000))
    assert await store.queue_length("mail-sync-poison") == 1
