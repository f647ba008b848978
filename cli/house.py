"""What `mailroom.wiring` builds, as far as a check needs it."""

from __future__ import annotations

from typing import Protocol

from mailroom.model.account import Account, Profile
from mailroom.ports import Certificates, Credential, Inbox, Sender, Vault


class House(Protocol):
    def vault(self) -> Vault: ...

    def certificates(self) -> Certificates: ...

    def credential(self, profile: Profile, /) -> Credential: ...

    def scope(self, account: Account, /) -> str: ...

    def sender(self, account: Account, /) -> Sender: ...

    def inbox(self, account: Account, /) -> Inbox: ...
