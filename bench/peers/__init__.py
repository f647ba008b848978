"""One file a variant. Each runs as a fresh process: `python -m bench.peers.NAME`."""

import sys

# With `rich` there, which only development tools bring, `import httpx` also imports its command line (36 of 49 ms). In Azure it is not there.
sys.modules["rich"] = None  # type: ignore[assignment]  # None makes the import fail, which httpx expects
