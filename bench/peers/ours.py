"""Ours: the real function_app.py and its real post_message: token checked, mail kept in the ledger, sent, settled."""

import asyncio

import function_app
from bench.peers.host import call
from bench.peers.where import accepted

asyncio.run(call(function_app.app))
accepted()
