"""Cold start, side by side: from the start of a fresh process to its first mail accepted, over TLS (bench/town.py).

`python -m bench.cold [RUNS]` runs every variant in turn, RUNS times over (interleaved, so that whatever else the machine does hits
all of them alike), prints a table and writes bench/out/cold.json.

"ours" does more than its peers: it checks the caller's token, keeps the mail in the ledger on Azurite, takes a slot in the mailbox's
lane, and settles. Ratios are of medians and take ours with the token in the sealed cache, which is what an app that is in use finds
after a cold start; the peers keep no token from one process to the next.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from bench.town import Town, town

ROOT = Path(__file__).parents[1]
OUT = ROOT / "bench" / "out" / "cold.json"
RUNS = 11
GOAL = 0.6

VARIANTS = {
    "stdlib": "http.client, token by hand, no azure.functions",
    "bare": "azure.functions + httpx, token by hand",
    "ours": "function_app.py, token in the sealed cache",
    "ours_without_token": "function_app.py, token from the authority, by certificate",
    "o365": "azure.functions + python-o365",
    "msgraph": "azure.functions + msgraph-sdk",
}
MODULES = {"ours_without_token": "ours", "msgraph": "msgraph_sdk"}


async def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    async with town(ROOT) as served:
        times = await measured(served, runs)
    result = summary(times)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(result, indent=2) + "\n")
    print(table(result))
    print(f"written to {OUT.relative_to(ROOT)}")


async def measured(served: Town, runs: int) -> dict[str, list[float]]:
    """Milliseconds by variant. The first round is not counted: it fills the disk's cache and compiles byte code."""
    times: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for turn in range(runs + 1):
        for name in VARIANTS:
            if name == "ours_without_token":
                await served.forget_tokens()
            took = await cold(name, served)
            if turn:
                times[name].append(took)
        progress(turn, runs)
    return times


async def cold(name: str, served: Town) -> float:
    started = time.perf_counter()
    # -S leaves out what pip's editable installs do at each start, which Azure has none of
    command = [sys.executable, "-S", "-m", f"bench.peers.{MODULES.get(name, name)}"]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=served.environment, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    line = await process.stdout.readline()
    took = (time.perf_counter() - started) * 1000
    if line != b"accepted\n" or await process.wait():
        raise SystemExit(f"{name} sent no mail; its errors are above")
    return took


def summary(times: dict[str, list[float]]) -> dict[str, Any]:
    medians = {name: statistics.median(found) for name, found in times.items()}
    return {
        "what": "milliseconds from the start of a fresh process to its first mail accepted",
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "runs": len(times["ours"]),
        "variants": {
            name: {
                "what": VARIANTS[name],
                "median_ms": round(medians[name], 1),
                "min_ms": round(min(found), 1),
                "max_ms": round(max(found), 1),
            }
            for name, found in times.items()
        },
        "ours_is": "with the token in the sealed cache",
        "ratios": {f"ours_vs_{peer}": round(medians["ours"] / medians[peer], 3) for peer in ("msgraph", "o365", "stdlib", "bare")},
        "goal": {"ours_vs_msgraph": GOAL, "ours_vs_o365": 1.0},
    }


def table(result: dict[str, Any]) -> str:
    variants = result["variants"]
    floor = variants["stdlib"]["median_ms"]
    rows = [
        f"{name:<20}{one['median_ms']:>8.0f}{one['min_ms']:>8.0f}{one['max_ms']:>8.0f}{one['median_ms'] / floor:>7.1f}  {one['what']}"
        for name, one in variants.items()
    ]
    ratios = "  ".join(f"{name} {value}" for name, value in result["ratios"].items())
    head = f"{'':<20}{'median':>8}{'min':>8}{'max':>8}{'× std':>7}  ms, {result['runs']} runs, Python {result['python']}"
    return "\n".join([head, *rows, f"ratios: {ratios}"])


def progress(turn: int, runs: int) -> None:
    end = "\n" if turn == runs else ""
    print(f"\rround {turn} of {runs}", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
