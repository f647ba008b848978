"""`python -m chaos.nursery`: the local host with the arguments of `sandbox.host`, started again whenever it is killed or fails.

Each is a fork of this process, which has loaded the app and does nothing else: what is killed again and again should not pay for imports.
Prints the pid of each on a line of its own; then comes the line by which the host says that it listens. Ends when one of them ends well.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import time

from sandbox.host import __main__ as host

HEAVY = (
    "aiosmtplib",
    "cryptography.x509",
    "email.message",
    "httpcore",
    "httpx",
    "joserfc",
    "msal",
    "msal.managed_identity",
    "xml.etree.ElementTree",
)
PAUSE = 0.3


def main() -> int:
    arguments = host.parser().parse_args()
    host.log_to_stderr()
    sys.path.insert(0, str(arguments.app.resolve()))
    for name in ("function_app", *HEAVY):
        importlib.import_module(name)
    while True:
        child = os.fork()
        if child == 0:
            return asyncio.run(host.run(arguments))
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        if status == 0:
            return 0
        if not os.WIFSIGNALED(status):  # storage was down when it started
            time.sleep(PAUSE)


if __name__ == "__main__":
    sys.exit(main())
