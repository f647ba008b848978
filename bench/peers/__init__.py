"""One file a variant. Each runs as a fresh process: `python -m bench.peers.NAME`."""

import sys

# `import httpx` also imports its command line where click is installed, and HTTP/2 where h2 is. Our requirements bring neither; development
# tools bring click, and msgraph-sdk brings h2, which it uses. So no variant pays for what it would not find in Azure.
ABSENT = {"click"} if sys.orig_argv[-1] == "bench.peers.msgraph_sdk" else {"click", "h2"}
for name in ABSENT:
    sys.modules[name] = None  # type: ignore[assignment]  # makes importing it fail, which httpx expects
