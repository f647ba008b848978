"""The tenant of the quick start: a service that sends, an application that calls it, its API, and its managed identity."""

from __future__ import annotations

from collections.abc import Iterable

from sandbox.directory import API, GRAPH, App, Directory, Resource
from sandbox.users import User

YEAR = 365 * 86_400.0


def town(mailboxes: Iterable[str] = ("anna@mailroom.example", "ben@mailroom.example"), *, lifetime: int = 3599) -> Directory:
    """Apps `graph`, `caller`, `mailroom-api`, `desktop` (public, for people) and the identity `mailroom-identity`.

    Each mailbox is a person's. Secrets, passwords and ids are new each time.
    """
    directory = Directory(mailboxes=set(mailboxes), lifetime=lifetime)
    for address in mailboxes:
        directory.add_user(User(address))
    directory.register(App("desktop", public=True, redirect_uris={"http://localhost"}))
    graph = directory.register(
        App("graph", app_roles={GRAPH: ["Mail.Read", "Mail.ReadWrite", "Mail.Send"]}, azure_roles={"Key Vault Administrator"})
    )
    caller = directory.register(App("caller", app_roles={API: ["Mail.Send", "Mail.Read", "Mail.Manage"]}))
    for app in (graph, caller):
        app.add_secret(ends=directory.now() + YEAR)
    api = directory.register(App("mailroom-api"))
    directory.resources.append(Resource(API, api.client_id, version=2))
    directory.register(
        App(
            "mailroom-identity",
            identity=True,
            azure_roles={"Key Vault Secrets Officer", "Key Vault Certificate User", "Key Vault Crypto User"},  # as infra gives it
        )
    )
    return directory
