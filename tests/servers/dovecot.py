"""Dovecot: checks tokens itself by the tenant's published keys, for IMAP, for its own submission and for Postfix.

doc.dovecot.org/2.3: "Open Authentication v2.0 database", local validation.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from joserfc.jwk import RSAKey

from sandbox.ca import Ca
from tests.servers.processes import Ports

MAIN = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
protocols = imap lmtp submission
listen = 127.0.0.1
ssl = required
ssl_cert = <{certificate}
ssl_key = <{key}
auth_mechanisms = xoauth2 oauthbearer
auth_verbose = yes
auth_failure_delay = 0
mail_location = maildir:~/Maildir
hostname = localhost
submission_relay_host = 127.0.0.1
submission_relay_port = {ports.inside}
submission_relay_trusted = yes
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {folder}/oauth2.conf.ext
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={folder}/mail/%Lu allow_all_users=yes
}}
service auth {{
  unix_listener {folder}/sasl {{
    mode = 0666
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {ports.lmtp}
  }}
}}
service imap-login {{
  inet_listener imap {{
    port = {ports.imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service submission-login {{
  inet_listener submission {{
    port = {ports.proxy}
  }}
}}
"""
OAUTH2 = """
introspection_mode = local
local_validation_key_dict = fs:posix:prefix={folder}/keys/
username_attribute = upn
username_format = %Lu
issuers = {issuer}
active_attribute = aud
active_value = {audience}
"""


def configured(folder: Path, ports: Ports, ca: Ca, keys: list[dict[str, Any]], issuer: str, audience: str) -> list[str]:
    """The command that runs it. It looks a key up by `azp`, which tokens of version 1 lack, by algorithm and by `kid`."""
    certificate, key = ca.cert_for_localhost()
    for jwk in keys:
        pem = folder / "keys" / "default" / "RS256" / str(jwk["kid"])
        pem.parent.mkdir(parents=True, exist_ok=True)
        pem.write_bytes(RSAKey.import_key(jwk).as_pem(private=False))
    (folder / "mail").mkdir()
    shutil.chown(folder / "mail", "nobody", "nogroup")
    (folder / "oauth2.conf.ext").write_text(OAUTH2.format(folder=folder, issuer=issuer, audience=audience))
    config = folder / "dovecot.conf"
    config.write_text(MAIN.format(folder=folder, ports=ports, certificate=certificate, key=key))
    return ["dovecot", "-F", "-c", str(config)]
