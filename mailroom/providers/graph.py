"""Microsoft Graph as a provider: ports.Sender and ports.Inbox in one."""

from __future__ import annotations

import httpx

from mailroom.model.account import Account
from mailroom.providers._graph_inbox import GraphInbox
from mailroom.providers._graph_sender import GraphSender


class Graph(GraphSender, GraphInbox):
    """Both sides share one client and one way to ask."""


def build(client: httpx.AsyncClient) -> Graph:
    return Graph(client)


def scope(account: Account) -> str:
    """What tokens for this account are asked for."""
    return account.profile.cloud.graph_scope
