"""Microsoft Graph as a provider: ports.Sender and ports.Inbox in one."""

from __future__ import annotations

from collections.abc import Iterator

from mailroom.model.account import Account, Traits
from mailroom.ports import Parts
from mailroom.providers import _authorities
from mailroom.providers._graph_inbox import GraphInbox
from mailroom.providers._graph_plan import SIZES
from mailroom.providers._graph_sender import GraphSender

TRAITS = Traits(
    permissions=("Mail.Send", "Mail.Read", "Mail.ReadWrite"),
    usual=("Mail.Send", "Mail.Read"),
    sending=frozenset({"Mail.Send"}),
    asking=frozenset({"Mail.Read", "Mail.ReadWrite"}),
    recipients_a_day=10_000,
    asks_headers=True,
    uploads=True,
    sizes=SIZES,
)


class Graph(GraphSender, GraphInbox):
    """Both sides share one client and one way to ask."""


def build(parts: Parts) -> Graph:
    return Graph(parts.client(), parts.store)


def mistakes(account: Account) -> Iterator[tuple[str, str, str]]:
    return _authorities.mistakes(account, google=False)


def scope(account: Account) -> str:
    """What tokens for this account are asked for."""
    return account.profile.cloud.graph_scope


def delegated_scope(account: Account) -> str:
    """What a user consents to: the account's own permissions, each by name."""
    resource = account.profile.cloud.graph_scope.removesuffix(".default")
    return " ".join(f"{resource}{name}" for name in TRAITS.permissions if name in account.permissions)
