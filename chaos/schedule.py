"""What goes wrong when: an endless stream of events that a seed fixes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from chaos.proxy import KILLS, Action
from chaos.town import LAG, MAILBOXES, PACE

Kind = Literal["kill", "trap", "outage", "fault", "revoke"]

SENDING: dict[str, dict[str, Any]] = {
    "429": {"answer": "429", "retry_after": 1},
    "429 after accepting": {"answer": "429", "retry_after": 1, "after_accepting": True},
    "503": {"answer": "503", "retry_after": 1},
    "504": {"answer": "504"},
    "504 after accepting": {"answer": "504", "after_accepting": True},
    "504 after accepting, with lag": {"answer": "504", "after_accepting": True, "lag": LAG},
    "500 after accepting": {"answer": "500", "after_accepting": True},
    "cut": {"answer": "cut"},
    "cut after the body": {"answer": "cut", "after_accepting": True},
    "too slow an answer": {"delay": PACE.call + 1, "after_accepting": True},
    "slow answer": {"delay": PACE.call / 3},
    "hang": {"answer": "hang"},
    "401": {"answer": "401"},
    "garbage after accepting": {"answer": "garbage", "after_accepting": True},
    "gateway's page after accepting": {"answer": "html", "after_accepting": True},
    "202 with Retry-After": {"answer": "202", "retry_after": 1},
    "lag": {"lag": LAG},
}
ASKING: dict[str, dict[str, Any]] = {
    "question: 429": {"answer": "429", "retry_after": 1},
    "question: 503": {"answer": "503"},
    "question: cut": {"answer": "cut"},
    "question: garbage": {"answer": "garbage"},
    "question: 401": {"answer": "401"},
}
ELSEWHERE: dict[str, dict[str, Any]] = {
    "authority: 503": {"service": "entra", "path": "token", "answer": "503"},
    "authority: cut": {"service": "entra", "path": "token", "answer": "cut"},
    "vault: 503": {"service": "vault", "answer": "503"},
    "identity: 500": {"service": "identity", "answer": "500"},
}
TRAPS: tuple[Action, ...] = (*KILLS, "cut", "lose", "lose", "busy", "slow", "late")


@dataclass(frozen=True, slots=True)
class Event:
    """`after` so many storage calls a trap springs, or for so many tenths of a second an outage lasts."""

    pause: float
    kind: Kind
    worker: int
    name: str = ""
    after: int = 0
    times: int = 1
    fault: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Density:
    """On the average: `pause` seconds between events, `life` storage calls of a worker until it is killed at one."""

    pause: float
    life: float

    @classmethod
    def of(cls, mails: int) -> Density:
        """A short run has as many kinds of trouble in it as a long one has."""
        return cls(min(2.0, 0.5 + mails / 10_000), min(1500.0, 300.0 + mails / 10))


def events(seed: int, workers: int, density: Density) -> Iterator[Event]:
    chance = random.Random(seed)
    while True:
        yield _event(chance, workers, density)


def _event(chance: random.Random, workers: int, density: Density) -> Event:
    pause, worker = chance.expovariate(1 / density.pause), chance.randrange(workers)
    kinds: list[Kind] = ["kill", "trap", "outage", "fault", "revoke"]
    match chance.choices(kinds, weights=[1, 30, 2, 64, 3])[0]:
        case "trap":
            action = chance.choice(TRAPS)
            if action in KILLS:
                return Event(pause, "trap", worker, action, int(chance.expovariate(1 / density.life)))
            return Event(pause, "trap", worker, action, chance.randrange(100), chance.randint(1, 5))
        case "outage":
            return Event(pause, "outage", worker, after=chance.randint(5, 25))
        case "fault":
            return _fault(chance, pause, worker)
        case kind:
            return Event(pause, kind, worker)


def _fault(chance: random.Random, pause: float, worker: int) -> Event:
    where = chance.choices([SENDING, ASKING, ELSEWHERE], weights=[75, 15, 10])[0]
    name = chance.choice(list(where))
    times, mailbox = chance.randint(1, 4), chance.choice(MAILBOXES)
    place = {"service": "graph", "path": f"{mailbox}/{'sendMail' if where is SENDING else 'mailFolders'}"}
    return Event(pause, "fault", worker, name, fault={**place, **where[name], "times": times})
