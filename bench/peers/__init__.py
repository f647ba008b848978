"""One file a variant. Each runs as a fresh process: `python -m bench.peers.NAME`."""

import sys

# Where `rich` is installed, which only development tools bring, `import httpx` also imports its command line: 36 of 49 ms that a
# function app in Azure never pays.
sys.modules["rich"] = None  # type: ignore[assignment]  # None makes the import fail, which httpx expects
