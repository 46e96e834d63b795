"""python-consul2 over httpx and trio.  Importing this takes a while: `litefs_lease_consul.connection` does it late.

The library's own ``Consul`` class lets the environment override the address and token it is given, and its
``session.create`` cannot make a session without health checks nor with another TTL than whole seconds from 10 on. So
the endpoint classes that fit are used on an agent of our own, and sessions are created here.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
from consul import base

from litefs.leases import LeaseExpired, LeaseUnavailable
from litefs_lease_consul.endpoint import TLS, Endpoint, is_token

LARGEST_ANSWER = 1 << 20
"""Bytes; a KV value has at most half of that."""

IDLE_LIMIT = 30.0
"""Seconds for which a connection is kept: longer than the pause between two renewals of most TTLs."""

Params = Sequence[tuple[str, object]] | None
Callback = Callable[[Any], Any]


class HTTPClient(base.HTTPClient):  # type: ignore[misc]  # the library has no types
    """The transport: every request raises LeaseUnavailable, or LeaseExpired for a session that is gone.

    It sets no time limits: the caller's cancel scope does.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint.host, endpoint.port, endpoint.scheme, endpoint.tls.verify)
        self.base_uri = endpoint.url
        self._endpoint = endpoint
        user, _, password = endpoint.basic_auth.partition(":")
        self._client = httpx.AsyncClient(
            auth=(user, password) if endpoint.basic_auth else None,
            verify=_ssl_context(endpoint.tls) if endpoint.scheme == "https" else False,
            # Proxies as the environment says, but never to this machine itself.
            trust_env=endpoint.host not in ("localhost", "127.0.0.1", "::1"),
            timeout=None,
            limits=httpx.Limits(keepalive_expiry=IDLE_LIMIT),
        )

    async def get(self, callback: Callback, path: str, params: Params = None, headers: Any = None) -> Any:
        """A GET request; what the callback makes of its answer."""
        return await self._request("GET", callback, path, params, headers)

    async def put(
        self, callback: Callback, path: str, params: Params = None, data: Any = "", headers: Any = None
    ) -> Any:
        """A PUT request; what the callback makes of its answer."""
        return await self._request("PUT", callback, path, params, headers, data)

    async def post(
        self, callback: Callback, path: str, params: Params = None, data: Any = "", headers: Any = None
    ) -> Any:
        """A POST request; what the callback makes of its answer."""
        return await self._request("POST", callback, path, params, headers, data)

    async def delete(
        self, callback: Callback, path: str, params: Params = None, data: Any = "", headers: Any = None
    ) -> Any:
        """A DELETE request; what the callback makes of its answer."""
        return await self._request("DELETE", callback, path, params, headers, data)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _request(
        self, method: str, callback: Callback, path: str, params: Params, headers: Any, data: str | bytes = ""
    ) -> Any:
        endpoint = self._endpoint
        params = [*(params or ()), *([("ns", endpoint.namespace)] if endpoint.namespace else ())]
        extensions = {"sni_hostname": endpoint.tls.server_name} if endpoint.tls.server_name else {}
        request = self._client.build_request(
            method, self.uri(path, params), content=data, headers=headers, extensions=extensions
        )
        try:
            answer = await self._client.send(request, stream=True)
            try:
                content = await self._content(answer)
            finally:
                await answer.aclose()
        except httpx.HTTPError as error:
            raise LeaseUnavailable(f"cannot reach Consul at {endpoint.url}", _reason(error)) from None
        return self._read(
            callback, base.Response(answer.status_code, answer.headers, content.decode(errors="replace"), content)
        )

    async def _content(self, answer: httpx.Response) -> bytes:
        content = bytearray()
        async for piece in answer.aiter_bytes():
            content += piece
            if len(content) > LARGEST_ANSWER:
                raise LeaseUnavailable(f"{self._endpoint.url} answers more than Consul would", "check lease.consul.url")
        return bytes(content)

    def _read(self, callback: Callback, response: Any) -> Any:
        try:
            return callback(response)
        except base.NotFound:
            raise LeaseExpired("Consul has no such session any more") from None
        except base.ConsulException:
            raise self._refusal(response.code, response.body) from None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise LeaseUnavailable(
                f"{self._endpoint.url} does not answer as Consul", "check lease.consul.url"
            ) from None

    def _refusal(self, status: int, body: str) -> LeaseUnavailable:
        text = " ".join(body.split())[:300]
        if self._endpoint.token:
            text = text.replace(self._endpoint.token, "***")
        hint = ""
        if status == 403:
            hint = "its ACL token must allow to write the key, sessions and, with a prefix in the URL, the node"
        elif "Session TTL" in body:
            hint = "change lease.consul.ttl, or session_ttl_min of Consul's servers"
        return LeaseUnavailable(f"Consul at {self._endpoint.url} refuses ({status} {text})", hint)


class Agent:
    """What python-consul2's endpoint classes expect of an agent, and those of them that a lease needs.

    Raises LeaseUnavailable where a file with the token or a certificate cannot be used.
    """

    dc = None
    consistency = "default"

    def __init__(self, endpoint: Endpoint) -> None:
        self.token = endpoint.token or _token_of(endpoint.token_file)
        try:
            self.http = HTTPClient(endpoint)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise LeaseUnavailable("cannot use the certificates for Consul", f"{error}; see CONSUL_CACERT") from None
        self.kv = base.Consul.KV(self)
        self.session = base.Consul.Session(self)
        self.catalog = base.Consul.Catalog(self)

    async def create_session(self, *, name: str, ttl: float, lock_delay: float, node: str = "") -> str:
        """The id of a new session without health checks, whose keys are deleted with it.

        Args:
            name: for operators to recognise it.
            ttl: seconds.
            lock_delay: seconds.
            node: the catalog node it belongs to; empty for the agent's own.
        """
        body = {
            "NodeChecks": [],
            "Name": name,
            "LockDelay": f"{round(lock_delay * 1000)}ms",
            "Behavior": "delete",
            "TTL": f"{ttl:.10g}s",
        }
        if node:
            body["Node"] = node
        headers = {"X-Consul-Token": self.token} if self.token else None
        created: str = await self.http.put(
            base.CB.json(is_id=True), "/v1/session/create", data=json.dumps(body), headers=headers
        )
        return created


def _token_of(path: str) -> str:
    if not path:
        return ""
    try:
        token = Path(path).read_text("utf-8").strip()
    except (OSError, ValueError):
        raise LeaseUnavailable("cannot read the file that CONSUL_HTTP_TOKEN_FILE names", path) from None
    if not is_token(token):
        raise LeaseUnavailable("the file that CONSUL_HTTP_TOKEN_FILE names holds no ACL token", path)
    return token


def _ssl_context(tls: TLS) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca_file or None, capath=tls.ca_path or None)
    if tls.certificate:
        context.load_cert_chain(tls.certificate, tls.key or None)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _reason(error: BaseException) -> str:
    """The innermost text there is: httpx says of every refused connection that all attempts failed."""
    text = str(error) or type(error).__name__
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, BaseExceptionGroup):
            inner = inner.exceptions[0]
        if isinstance(inner, OSError) and inner.strerror:
            text = inner.strerror
        inner = inner.__cause__ or inner.__context__
    return text
