"""/applications/{id}/addKey: an application registers a new key of its own, with the proof that it has an older one.

learn.microsoft.com/graph/api/application-addkey and /graph/application-rollkey-prooftoken. It takes no permission, and says of a proof that
is wrong in any part no more than Authentication_MissingOrMalformed.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.x509 import load_der_x509_certificate

from sandbox.directory import App, Directory
from sandbox.entra import assertion
from sandbox.entra.aadsts import Refusal
from sandbox.graph.call import Answer, parse
from sandbox.graph.errors import GraphError, bad_request

LONGEST = 600  # seconds from `nbf` to `exp`
SKEW = 300


def add_key(directory: Directory, client_id: str, object_id: str, content_type: str, body: bytes) -> Answer:
    """`client_id` is the caller's. Raises GraphError."""
    app = directory.apps[client_id]
    if object_id.lower() != app.application_id:
        raise GraphError(403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")
    asked = parse(content_type, body)
    _check_proof(str(asked.get("proof")), app, directory)
    der = _key(asked.get("keyCredential"))
    directory.register_certificate(client_id, der)
    return Answer(200, _shown(der))


def _check_proof(proof: str, app: App, directory: Directory) -> None:
    try:
        jwt = assertion.parse(proof)
        assertion.check_signature(jwt, app, directory.now())
    except Refusal as error:
        raise _malformed() from error
    claims, now = jwt.claims, directory.now()
    start, end = claims.get("nbf"), claims.get("exp")
    timely = isinstance(start, int) and isinstance(end, int) and end - start <= LONGEST and start - SKEW <= now <= end + SKEW
    signed_by = jwt.header.get("alg") == "RS256" and "=" not in proof
    if not (timely and signed_by and claims.get("aud") == directory.proof_audience and claims.get("iss") == app.application_id):
        raise _malformed()


def _key(credential: object) -> bytes:
    wanted = {"type": "AsymmetricX509Cert", "usage": "Verify"}
    if not isinstance(credential, dict) or any(credential.get(name) != value for name, value in wanted.items()):
        raise bad_request("Invalid value specified for property 'keyCredential' of resource 'Application'.")
    try:
        der = base64.b64decode(str(credential.get("key")), validate=True)
        load_der_x509_certificate(der)
    except (binascii.Error, ValueError) as error:
        raise bad_request("Key credential value is not a valid certificate.") from error
    return der


def _shown(der: bytes) -> dict[str, Any]:
    certificate = load_der_x509_certificate(der)
    return {
        "@odata.context": "https://graph.microsoft.com/v1.0/$metadata#microsoft.graph.keyCredential",
        "customKeyIdentifier": base64.b64encode(certificate.fingerprint(hashes.SHA1())).decode(),
        "keyId": str(uuid.uuid4()),
        "type": "AsymmetricX509Cert",
        "usage": "Verify",
        "endDateTime": certificate.not_valid_after_utc.isoformat(),
        "key": None,
    }


def _malformed() -> GraphError:
    return GraphError(401, "Authentication_MissingOrMalformed", "Access Token missing or malformed.")
