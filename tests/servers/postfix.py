"""Postfix: submission that asks Dovecot whose a token is, and a relay that knows its clients by their certificates.

postfix.org: SASL_README, TLS_README, postconf(5).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from sandbox.ca import Ca
from tests.servers.processes import Ports

MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/postfix.log
maillog_file_prefixes = {folder}
myhostname = localhost
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
message_size_limit = 8388608
virtual_mailbox_limit = 0
virtual_mailbox_domains = {domain}
virtual_mailbox_maps = inline:{{ {mailboxes} }}
virtual_transport = lmtp:inet:127.0.0.1:{ports.lmtp}
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
smtpd_tls_security_level = encrypt
smtpd_tls_auth_only = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {folder}/sasl
smtpd_sender_login_maps = inline:{{ {mailboxes} }}
smtpd_peername_lookup = no
"""
MASTER = """
127.0.0.1:{ports.submission} inet n - n - - smtpd
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_sender_restrictions=reject_sender_login_mismatch
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
127.0.0.1:{ports.relay} inet n - n - - smtpd
  -o smtpd_tls_ask_ccert=yes
  -o smtpd_tls_CAfile={clients}
  -o smtpd_relay_restrictions=permit_tls_all_clientcerts,reject
127.0.0.1:{ports.inside} inet n - n - - smtpd
  -o smtpd_tls_security_level=none
  -o smtpd_authorized_xclient_hosts=127.0.0.1
  -o smtpd_relay_restrictions=permit_mynetworks,reject
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
lmtp unix - - n - - lmtp
tlsmgr unix - - n 1000 1 tlsmgr
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def configured(folder: Path, ports: Ports, ca: Ca, mailboxes: list[str], clients: str) -> tuple[list[str], list[str]]:
    """The commands that run and stop it. Each mailbox is its user's alone; `clients` is the relay's clients' authority, in PEM."""
    certificate, key = ca.cert_for_localhost()
    config = folder / "postfix"
    for name in (config, folder / "queue", folder / "data"):
        name.mkdir()
    shutil.chown(folder / "data", "postfix")
    (folder / "clients.pem").write_text(clients)
    owners = ", ".join(f"{{ {mailbox} = {mailbox} }}" for mailbox in mailboxes)
    domain = mailboxes[0].partition("@")[2]
    main = MAIN.format(folder=folder, ports=ports, domain=domain, mailboxes=owners, certificate=certificate, key=key)
    (config / "main.cf").write_text(main)
    (config / "master.cf").write_text(MASTER.format(ports=ports, clients=folder / "clients.pem"))
    os.chmod(folder / "queue", 0o755)
    return ["postfix", "-c", str(config), "start-fg"], ["postfix", "-c", str(config), "stop"]
