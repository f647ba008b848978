"""Several accounts share a batch by their rates, so that their lanes end at about the same time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mailroom.errors import BadInput
from mailroom.model.account import Account


class Spread:
    """Whose turn is next: the account that would be done first with one mail more. The same mails give the same turns."""

    def __init__(self, names: Sequence[str], known: Mapping[str, Account], done: Sequence[float] = ()) -> None:
        """Goes on where one had come so far as `done` tells. Raises BadInput.

        An account that is not known is left to the check of its first mail.
        """
        if not names or not all(names) or len({*names}) < len(names):
            what = f"{list(names)!r} are not several accounts."
            raise BadInput("accounts_invalid", what, "Name each account once: billing,billing2.", field="accounts")
        self._seconds = {name: 60 / known[name].rate if name in known else 0.0 for name in names}
        self._done = dict(zip(names, done or [0.0] * len(names), strict=True))

    @property
    def done(self) -> tuple[float, ...]:
        """Seconds that each account takes for its mails so far."""
        return tuple(self._done.values())

    def next(self) -> str:
        name = min(self._done, key=lambda one: self._done[one] + self._seconds[one])
        self._done[name] += self._seconds[name]
        return name
