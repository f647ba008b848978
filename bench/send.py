"""Sending, side by side on one fixed-answer server (bench/fixed.py): mails per CPU second of the sender's process, and per second.

`python -m bench.send [ROUNDS]` runs every sender in turn, ROUNDS times over (interleaved, so that whatever else the machine does hits all
alike), prints a table and writes bench/out/send.json. Ratios are of medians; CPU seconds say more than the clock on a machine
that is shared. What each ratio compares is in RATIOS.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import shutil
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bench.fixed import Fixed, fixed
from mailroom.model.account import Storage
from sandbox import azurite as emulator
from sandbox.azurite import Azurite

ROOT = Path(__file__).parents[1]
OUT = ROOT / "bench" / "out" / "send.json"
ROUNDS = 5
WRK_SECONDS = 3


@dataclass(frozen=True, slots=True)
class Sender:
    """`slice` is how many mails ours puts into one call."""

    module: str
    what: str
    mails: int
    at_once: int = 1
    late: bool = False
    slice: int = 1


SENDERS = {
    "httpx": Sender("httpx_by_hand", "httpx.AsyncClient by hand, 16 at once", 800, 16),
    "o365": Sender("o365", "python-o365, its 200 ms delay off, one after the other", 800),
    "msgraph": Sender("msgraph_sdk", "msgraph-sdk, 4 at once (its best)", 600, 4),
    "smtp": Sender("smtp", "aiosmtplib, one connection kept, no TLS", 1200),
    "ours_single": Sender("ours", "ours, provider, single mails, 16 at once", 1600, 16),
    "ours_provider": Sender("ours", "ours, provider, slices of 20", 8000, 1, slice=20),
    "ours_whole": Sender("ours_whole", "ours, whole path on Azurite: ticket, blob, ledger, provider, ledger", 2000),
    "httpx_late": Sender("httpx_by_hand", "httpx by hand, 64 at once, 100 ms", 640, 64, late=True),
    "o365_late": Sender("o365", "python-o365, one after the other, 100 ms", 20, 1, late=True),
    "msgraph_late": Sender("msgraph_sdk", "msgraph-sdk, 64 at once, 100 ms", 640, 64, late=True),
    "ours_late": Sender("ours", "ours, provider, single mails, 64 at once, 100 ms", 1920, 64, late=True),
}
RATIOS = {
    "provider_vs_o365": ("ours_provider", "o365", "cpu"),
    "provider_vs_msgraph": ("ours_provider", "msgraph", "cpu"),
    "whole_vs_o365": ("ours_whole", "o365", "cpu"),
    "single16_vs_httpx": ("ours_single", "httpx", "cpu"),
    "latency100_vs_wrk": ("ours_late", "wrk_late", "clock"),
}
GOALS = {
    "provider_vs_o365": 9.0,
    "provider_vs_msgraph": 25.0,
    "whole_vs_o365": 4.0,
    "single16_vs_httpx": 2.0,
    "latency100_vs_wrk": 0.97,
}
Runs = dict[str, list[dict[str, float]]]


async def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    if shutil.which("wrk") is None:
        raise SystemExit("this needs wrk: apt-get install wrk")
    async with fixed() as server, Azurite() as azurite:
        storage = Storage(azurite.url("blob"), azurite.url("queue"), azurite.url("table"), emulator.ACCOUNT, emulator.KEY)
        result = summary(await measured(server, storage, rounds))
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(result, indent=2) + "\n")
    print(table(result))
    print(f"written to {OUT.relative_to(ROOT)}")


async def measured(server: Fixed, storage: Storage, rounds: int) -> Runs:
    runs: Runs = {name: [] for name in (*SENDERS, "wrk", "wrk_late")}
    for turn in range(rounds):
        for name, sender in SENDERS.items():
            runs[name].append(await sent(sender, server, storage))
        runs["wrk"].append(await wrk(server.at_once, 16))
        runs["wrk_late"].append(await wrk(server.late, 64))
        print(f"\rround {turn + 1} of {rounds}", end="\n" if turn + 1 == rounds else "", file=sys.stderr, flush=True)
    return runs


async def sent(sender: Sender, server: Fixed, storage: Storage) -> dict[str, float]:
    """Mails per CPU second and per second."""
    task = {
        "graph": server.late if sender.late else server.at_once,
        "smtp": server.smtp,
        "storage": msgspec.to_builtins(storage),
        "mails": sender.mails,
        "at_once": sender.at_once,
        "slice": sender.slice,
    }
    env = {**os.environ, "BENCH_SEND": json.dumps(task)}
    command = [sys.executable, "-m", f"bench.senders.{sender.module}"]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=env, stdout=asyncio.subprocess.PIPE)
    told, _ = await process.communicate()
    if process.returncode:
        raise SystemExit(f"{sender.what}: it failed; its errors are above")
    found = json.loads(told)
    return {"cpu": found["mails"] / found["cpu"], "clock": found["mails"] / found["clock"]}


async def wrk(graph: str, at_once: int) -> dict[str, float]:
    """What the server can do at all; wrk's own CPU is not measured."""
    command = ["wrk", "-t1", f"-c{at_once}", f"-d{WRK_SECONDS}", f"{graph}/users/billing@example.com/sendMail"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    told, _ = await process.communicate()
    found = re.search(r"Requests/sec:\s*([\d.]+)", told.decode())
    if found is None:
        raise SystemExit(f"wrk said nothing of requests: {told.decode()}")
    return {"clock": float(found[1])}


def summary(runs: Runs) -> dict[str, Any]:
    medians = {name: {key: statistics.median(run[key] for run in found) for key in found[0]} for name, found in runs.items()}
    whats = {name: sender.what for name, sender in SENDERS.items()} | {"wrk": "wrk, 16 at once", "wrk_late": "wrk, 64 at once, 100 ms"}
    return {
        "what": "mails per CPU second of the sender's process (cpu) and per second (clock), medians",
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "rounds": len(runs["wrk"]),
        "senders": {
            name: {"what": whats[name], **{key: round(value, 1) for key, value in found.items()}} for name, found in medians.items()
        },
        "ratios": {name: round(medians[ours][key] / medians[peer][key], 2) for name, (ours, peer, key) in RATIOS.items()},
        "goals": GOALS,
    }


def table(result: dict[str, Any]) -> str:
    rows = [
        f"{name:<16}{one.get('cpu', float('nan')):>10.0f}{one['clock']:>10.0f}  {one['what']}" for name, one in result["senders"].items()
    ]
    ratios = [f"{name:<22}{value:>7.2f}  goal {result['goals'][name]:g}" for name, value in result["ratios"].items()]
    head = f"{'':<16}{'per CPU s':>10}{'per s':>10}  {result['rounds']} rounds, Python {result['python']}"
    return "\n".join([head, *rows, *ratios])


if __name__ == "__main__":
    asyncio.run(main())
