"""What a run says of itself: a few lines for people, bench/out/chaos.json for programs."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from chaos.verdict import Verdict
from sandbox.functions import ROOT

OUT = ROOT / "bench" / "out" / "chaos.json"
SHOWN = 10  # subjects of what went wrong
_EVENT = re.compile(rb'mailroom: (\{"event": "[^\n]*\})')


def events_of(logs: list[Path]) -> Counter[str]:
    """How often the functions told of what, by event and code."""
    told: Counter[str] = Counter()
    for log in logs:
        for found in _EVENT.finditer(log.read_bytes()):
            event = json.loads(found[1])
            told[" ".join(filter(None, (event["event"], event.get("code"))))] += 1
    return told


def numbers(verdict: Verdict) -> dict[str, Any]:
    return {
        "mails": verdict.mails,
        "lost": len(verdict.lost),
        "sent_twice": len(verdict.sent_twice),
        "in_doubt": len(verdict.owed),
        "ledger_disagreements": len(verdict.disagreements),
        "explained": dict(verdict.explained),
        "examples": {
            name: subjects[:SHOWN]
            for name, subjects in [
                ("lost", verdict.lost),
                ("sent_twice", verdict.sent_twice),
                ("in_doubt", verdict.owed),
                ("ledger_disagreements", verdict.disagreements),
            ]
            if subjects
        },
    }


def write(told: dict[str, Any]) -> None:
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(told, indent=2) + "\n")


def summary(told: dict[str, Any]) -> str:
    lines = [
        f"{told['mails']} mails in {told['seconds']:.0f} s, {sum(told['kills'].values())} kills, "
        f"{sum(told['faults'].values())} faults of {len(told['faults'])} kinds",
        f"lost {told['lost']}, sent twice {told['sent_twice']}, still owed {told['in_doubt']}, "
        f"ledger disagreements {told['ledger_disagreements']}",
    ]
    lines += [f"{count} {what}" for what, count in told["explained"].items()]
    lines += [f"{name}: {', '.join(subjects)}" for name, subjects in told["examples"].items()]
    lines += [f"an answer that nobody should get: {count} x {what}" for what, count in told["unexpected_answers"].items()]
    return "\n" + "\n".join(lines) + f"\n\nseed {told['seed']}: make chaos MAILS={told['mails']} SEED={told['seed']} plays it again"
