"""`make chaos`: mails sent through everything that can go wrong, and then counted. Exit status 1 when a promise is broken.

Real function processes of the local host on one storage, Azurite behind proxies, the sandbox in its own process. A seed fixes what goes
wrong and in which order; how far the mails have come by then is for the machine to say.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import secrets
import ssl
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from chaos import report
from chaos.load import Job, Load, plan
from chaos.schedule import Density, events
from chaos.siege import Siege
from chaos.town import Addresses, town
from chaos.truth import Truth, truth
from chaos.verdict import Verdict, judge
from chaos.workers import workers
from mailroom.model.places import OUTBOX_QUEUE
from sandbox.functions import QUEUES
from sandbox.host.queues import Queue
from sandbox.host.storage import Storage
from sandbox.transcript import StepFailed, Transcript

LEFT = 0.3  # of the slices that wait once all mails are accepted, when healing begins
HEALED_WITHIN = 300.0  # seconds until nothing is owed any more
PURGED_AT = 0.1  # of the mails are accepted, and their tickets alive
LEAST = 100  # mails: below that the set pieces have nothing to do
QUIET = 3  # looks in a row that find nothing owed


@dataclass(slots=True)
class Run:
    seed: int
    mails: int
    workers: int
    folder: Path
    transcript: Transcript = field(default_factory=Transcript)
    kills: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)

    async def all(self) -> int:
        async with AsyncExitStack() as stack:
            with self.transcript.step("the sandbox and the functions are up") as step:
                where = await stack.enter_async_context(town())
                http = await stack.enter_async_context(_client(where))
                for name in QUEUES:
                    await Queue(Storage(where.storage, http), name).create()
                up = await stack.enter_async_context(workers(where, self.workers, self.folder, self.kills, self.hits))
                true = await stack.enter_async_context(truth(where, http))
                step.say(f"{self.workers} workers, seed {self.seed}")
            siege = Siege(where, up, http, self.hits)
            queue = Queue(Storage(where.storage, http), OUTBOX_QUEUE)
            load = Load(where, up, http, queue, true.waiting, random.Random(f"callers {self.seed}"))
            jobs = plan(self.seed, self.mails)
            await self._fire(siege, load, true, jobs)
            await self._heal(siege, true)
            with self.transcript.step("counted"):
                verdict = await self._count(true, jobs)
        return self._tell(siege, load, verdict)

    async def _fire(self, siege: Siege, load: Load, true: Truth, jobs: list[Job]) -> None:
        with self.transcript.step("mails, while everything goes wrong") as step:
            under = asyncio.create_task(siege.run(events(self.seed, self.workers, Density.of(self.mails))))
            handing = asyncio.create_task(self._hand_over(siege, load, true, jobs))
            try:
                while not handing.done():
                    step.draw(load.accepted / self.mails * 0.99)
                    await asyncio.wait({handing, under}, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
                    if under.done():
                        await under
                await handing
            finally:
                for task in (under, handing):
                    task.cancel()
                await asyncio.gather(under, handing, return_exceptions=True)
            step.say(f"{load.accepted} accepted, {sum(self.kills.values())} kills, {self.transcript.seconds:.0f} s")

    async def _hand_over(self, siege: Siege, load: Load, true: Truth, jobs: list[Job]) -> None:
        victim, *others = jobs
        over_http, plain = ([job for job in others if (job.how == "plain") == is_plain] for is_plain in (False, True))

        async def on_the_queue() -> None:
            while load.accepted < self.mails * PURGED_AT:  # noqa: ASYNC110 - what callers have got is no event of ours
                await asyncio.sleep(0.2)
            await siege.purge(true.waiting)  # before the ticket that is counted and any plain message lie there: these nobody has accepted
            await siege.kill_at_each_delivery(load, victim)
            await load.plain(plain)

        async with asyncio.TaskGroup() as group:
            group.create_task(on_the_queue())
            await load.hand_over(over_http)
        await self._until_few_are_left(true)

    async def _until_few_are_left(self, true: Truth) -> None:
        """Most of what waits is sent while things go wrong, not after."""
        most = await true.owed()
        while await true.owed() > most * LEFT:  # noqa: ASYNC110 - what lies in storage is no event of ours
            await asyncio.sleep(1.0)

    async def _heal(self, siege: Siege, true: Truth) -> None:
        with self.transcript.step("healed, until nothing is owed") as step:
            await siege.heal()
            most, quiet = max(await true.open(), 1), 0

            async def look() -> tuple[float, float]:
                nonlocal most, quiet
                still = await true.open()
                most, quiet = max(most, still), 0 if still else quiet + 1
                return most - still + quiet, most + QUIET

            with contextlib.suppress(TimeoutError):  # what is owed for ever is in the verdict
                await step.wait(look, HEALED_WITHIN)
            step.say(f"{self.transcript.seconds:.0f} s")

    async def _count(self, true: Truth, jobs: list[Job]) -> Verdict:
        copies = await true.copies()
        known = {stamp: subject for subject, stamps in copies.items() for stamp in stamps}
        ledger = await true.with_subjects(await true.slices(), known)
        return judge((subject for job in jobs for subject in job.subjects), copies, ledger, await true.aside())

    def _tell(self, siege: Siege, load: Load, verdict: Verdict) -> int:
        told = report.numbers(verdict) | {
            "kills": dict(self.kills),
            "faults": dict(self.hits),
            "tokens_revoked": siege.revoked,
            "tickets_purged": siege.purged,
            "tickets_killed_at_each_delivery": siege.poisoned_unasked,
            "accepts_cut_short": load.cut_short,
            "requests_repeated": load.repeats,
            "unexpected_answers": dict(load.unexpected),
            "events": dict(report.events_of(sorted(self.folder.glob("*.log"))).most_common()),
            "seconds": round(self.transcript.seconds, 1),
            "seed": self.seed,
        }
        report.write(told)
        self.transcript.say(report.summary(told))
        return 0 if verdict.is_good and not load.unexpected and siege.poisoned_unasked and siege.purged else 1


@contextlib.asynccontextmanager
async def _client(where: Addresses) -> AsyncIterator[httpx.AsyncClient]:
    context = ssl.create_default_context(cafile=where.ca)
    async with httpx.AsyncClient(verify=context, trust_env=False, timeout=30, limits=httpx.Limits(max_connections=None)) as http:
        yield http


def main() -> int:
    parser = argparse.ArgumentParser("python -m chaos", description="Sends mails through everything that can go wrong, then counts them.")
    parser.add_argument("--mails", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of a run to be played again")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where the workers' logs stay; without it they go")
    arguments = parser.parse_args()
    if arguments.mails < LEAST:
        parser.error(f"--mails: found {arguments.mails}; at least {LEAST} are needed")
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="mailroom-chaos-") as name:
        folder = arguments.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        run = Run(arguments.seed, arguments.mails, arguments.workers, folder)
        try:
            return asyncio.run(run.all())
        except (StepFailed, ExceptionGroup) as failed:
            print(f"\nFAILED: {'; '.join(_reasons(failed))}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print(f"\nstopped; seed {arguments.seed}", file=sys.stderr)
            return 130


def _reasons(error: BaseException) -> list[str]:
    """What is at the bottom of it."""
    if isinstance(error, BaseExceptionGroup):
        return [reason for one in error.exceptions for reason in _reasons(one)]
    if isinstance(error, StepFailed) and error.__cause__ is not None:
        return _reasons(error.__cause__)
    return [f"{type(error).__name__}: {error}".removesuffix(": ")]


if __name__ == "__main__":
    sys.exit(main())
