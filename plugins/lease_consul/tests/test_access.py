"""Consuls that do not let everybody in: TLS with client certificates, ACL tokens that know only a prefix."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from litefs_lease_consul.connection import Connection
from litefs_lease_consul.endpoint import locate
from litefs_lease_consul.keys import Keys
from litefs_lease_consul.leaser import ConsulLeaser

from litefs.leases import LeaseUnavailable
from tests.support.consul import Consul, find_consul, running_consul
from tests.support.nodes import free_port

MASTER = "5d19af1b-2c1b-4ee9-b8cf-a3a1b2a5b7a0"


def round_trip(url: str, environment: dict[str, str], key: str = "k") -> None:
    """All that a lease does."""

    async def main() -> None:
        endpoint = locate(url, environment)
        keys = Keys.join(endpoint.prefix, key)
        leaser = ConsulLeaser(Connection(endpoint), keys, "one", "http://one:1", ttl=20.0)
        try:
            assert await leaser.primary() is None
            lease = await leaser.acquire()
            await leaser.set_cluster_id("LFSC0123456789ABCDEF")
            await lease.renew()
            await lease.release()
        finally:
            with trio.CancelScope(shield=True):
                await leaser.aclose()

    trio.run(main)


# ------------------------------------------------------------------------------------------------------------------ TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an authority, a server called server.dc1.consul and a client."""
    folder = tmp_path_factory.mktemp("certificates")
    for command in (["ca"], ["cert", "-server"], ["cert", "-client"]):
        done = subprocess.run(
            [find_consul(), "tls", command[0], "create", *command[1:]], cwd=folder, capture_output=True
        )
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def secure(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an agent that wants client certificates."""
    port = free_port()
    options = f"""
        ports {{ https = {port} }}
        verify_incoming_https = true
        ca_file = "{certificates}/consul-agent-ca.pem"
        cert_file = "{certificates}/dc1-server-consul-0.pem"
        key_file = "{certificates}/dc1-server-consul-0-key.pem"
    """
    with running_consul(tmp_path_factory.mktemp("secure"), options):
        yield f"https://127.0.0.1:{port}"


def environment_of(certificates: Path) -> dict[str, str]:
    return {
        "CONSUL_CACERT": f"{certificates}/consul-agent-ca.pem",
        "CONSUL_CLIENT_CERT": f"{certificates}/dc1-client-consul-0.pem",
        "CONSUL_CLIENT_KEY": f"{certificates}/dc1-client-consul-0-key.pem",
        "CONSUL_TLS_SERVER_NAME": "server.dc1.consul",
    }


def test_certificates(secure: str, certificates: Path) -> None:
    round_trip(secure, environment_of(certificates))


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes such folders")
def test_a_folder_of_authorities(secure: str, certificates: Path, tmp_path: Path) -> None:
    environment = environment_of(certificates)
    authority = Path(environment.pop("CONSUL_CACERT"))
    (tmp_path / "ca.pem").write_bytes(authority.read_bytes())
    subprocess.run(["openssl", "rehash", str(tmp_path)], check=True)
    round_trip(secure, environment | {"CONSUL_CAPATH": str(tmp_path)})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("CONSUL_CACERT", "", "certificate verify failed"),
        ("CONSUL_TLS_SERVER_NAME", "server.dc2.consul", "certificate verify failed.*mismatch"),
        ("CONSUL_CLIENT_CERT", "", "cannot reach Consul"),
    ],
)
def test_without_one_of_them(secure: str, certificates: Path, name: str, value: str, message: str) -> None:
    with pytest.raises(LeaseUnavailable, match=message):
        round_trip(secure, environment_of(certificates) | {name: value})


def test_verification_can_be_turned_off(secure: str, certificates: Path) -> None:
    environment = environment_of(certificates)
    del environment["CONSUL_CACERT"], environment["CONSUL_TLS_SERVER_NAME"]
    round_trip(secure, environment | {"CONSUL_HTTP_SSL_VERIFY": "false"})


# ----------------------------------------------------------------------------------------------------------------- ACLs


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consul]:
    """An agent that denies what no token allows."""
    options = f'acl {{ enabled = true default_policy = "deny" tokens {{ master = "{MASTER}" agent = "{MASTER}" }} }}'
    os.environ.pop("CONSUL_HTTP_TOKEN", None)
    with running_consul(tmp_path_factory.mktemp("guarded"), options, token=MASTER) as agent:
        yield agent


def make_token(consul: Consul, rules: str) -> str:
    def put(path: str, body: dict[str, Any]) -> dict[str, Any]:
        created: dict[str, Any] = consul.request("PUT", path, json.dumps(body).encode())
        return created

    policy = put("/v1/acl/policy", {"Name": f"policy-{os.urandom(4).hex()}", "Rules": rules})
    token = put("/v1/acl/token", {"Policies": [{"ID": policy["ID"]}]})
    return str(token["SecretID"])


def test_a_token_for_a_prefix(guarded: Consul) -> None:
    """What a shared Consul gives out, and what docs/leases.md asks for."""
    rules = 'key_prefix "app/" { policy = "write" } node_prefix "app/" { policy = "write" } session_prefix "app/" '
    token = make_token(guarded, rules + '{ policy = "write" }')
    round_trip(f"http://:{token}@127.0.0.1:{guarded.port}/app/", {}, "litefs/primary")
    round_trip(f"{guarded.url}/app", {"CONSUL_HTTP_TOKEN": token}, "again")


def test_a_token_that_may_not(guarded: Consul) -> None:
    token = make_token(guarded, 'key_prefix "" { policy = "read" }')
    with pytest.raises(LeaseUnavailable, match=r"refuses \(403 .*its ACL token must allow to write the key") as caught:
        round_trip(f"http://:{token}@127.0.0.1:{guarded.port}", {})
    assert token not in str(caught.value)


def test_a_token_that_does_not_exist(guarded: Consul) -> None:
    token = "11111111-2222-3333-4444-555555555555"
    with pytest.raises(LeaseUnavailable, match=r"refuses \(403 ACL not found\)") as caught:
        round_trip(f"http://:{token}@127.0.0.1:{guarded.port}", {})
    assert token not in str(caught.value)
