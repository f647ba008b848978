"""The floor: http.client, the token asked for by hand, no Azure Functions at all."""

import http.client
import json
import ssl
from urllib.parse import urlencode, urlsplit

from bench.peers.where import WHERE, accepted, graph_mail, token_form


def post(tls: ssl.SSLContext, url: str, body: str, headers: dict[str, str]) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPSConnection(parts.netloc, context=tls)
    connection.request("POST", parts.path, body, headers)
    response = connection.getresponse()
    return response.status, response.read()


def main() -> None:
    tls = ssl.create_default_context()
    status, body = post(
        tls,
        f"{WHERE['authority']}/{WHERE['tenant']}/oauth2/v2.0/token",
        urlencode(token_form()),
        {"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert status == 200, body
    headers = {"Authorization": f"Bearer {json.loads(body)['access_token']}", "Content-Type": "application/json"}
    status, body = post(tls, f"{WHERE['graph']}/users/{WHERE['mailbox']}/sendMail", json.dumps(graph_mail()), headers)
    assert status == 202, body
    accepted()


main()
