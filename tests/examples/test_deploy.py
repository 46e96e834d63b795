"""Files for machines that are not here: each is of its format, and what they say of one another is true."""

from __future__ import annotations

import configparser
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from litefs import cli
from litefs.config import Config, loads
from litefs.plugins import load
from litefs.supervisor import from_entry
from tests.support.lease_file import installed
from tests.support.programs import find_tool

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
DEPLOY = EXAMPLES / "deploy"
APPS = ["starlette", "flask", "node"]
CONTAINERS = [EXAMPLES / name for name in APPS]

# What examples/two-nodes and scripts/quickstart set.
TWO_NODES = {
    "HOSTNAME": "a",
    "DIRECTORY": "/demo/a",
    "API_PORT": "1",
    "PROXY_PORT": "2",
    "APP_PORT": "3",
    "LEASE": "/l",
}
QUICKSTART = {"LITEFS_DEMO_PORT": "20202", "LITEFS_DEMO_ALLOW_OTHER": "false"}


def as_id(path: Path) -> str:
    return str(path.relative_to(EXAMPLES))


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def port(address: str) -> int:
    return int(address.rpartition(":")[2])


@pytest.fixture
def file_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The lease plugin of the examples is installed in this process."""
    monkeypatch.syspath_prepend(installed(tmp_path))
    load.cache_clear()
    yield
    load.cache_clear()


@pytest.mark.usefixtures("file_lease")
@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*/litefs*.yml")), ids=as_id)
def test_every_configuration_passes_the_check(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {**TWO_NODES, **QUICKSTART, "CONSUL_URL": "http://consul:8500"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "token").write_text("x" * 64)
    copy = tmp_path / "litefs.yml"
    copy.write_text(file.read_text().replace("/etc/litefs.token", str(tmp_path / "token")))
    code = cli.main(["config", "check", "-config", str(copy)])
    out, err = capsys.readouterr()
    assert (code, out) == (0, f"{copy}: ok\n"), err
    # What is not on this machine may be on the one it is meant for; that is all it may complain of.
    assert not [line for line in err.splitlines() if "there is no program" not in line]


@pytest.mark.parametrize("page", ["deploy.md"])
def test_configurations_in_the_documentation(page: str) -> None:
    for block in re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL):
        loads(block, plugins=load(), environment={"HOSTNAME": "node1"})


# ---------------------------------------------------------------------------------------------- Dockerfiles


def instructions(dockerfile: Path) -> Iterator[tuple[str, str]]:
    """Names and arguments; comments and continued lines resolved."""
    text = re.sub(r"^#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, arguments = line.partition(" ")
        yield name, arguments


def copied(dockerfile: Path) -> Iterator[tuple[list[str], str]]:
    """Sources from the build's context and where they go."""
    for name, arguments in instructions(dockerfile):
        *sources, target = shlex.split(arguments)
        if name == "COPY" and not sources[0].startswith("--from="):
            yield sources, target


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*/Dockerfile")), ids=as_id)
def test_dockerfiles(file: Path) -> None:
    known = {"ARG", "FROM", "RUN", "ENV", "WORKDIR", "COPY", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT"}
    names = [name for name, _ in instructions(file)]
    assert set(names) <= known
    assert names[0] in ("ARG", "FROM")
    context = ROOT if file.parent == DEPLOY else file.parent
    for sources, target in copied(file):
        assert all(list(context.glob(source)) for source in sources), sources
        assert len(sources) == 1 or target.endswith("/")
    for name, arguments in instructions(file):
        if arguments.startswith("["):
            assert yaml.safe_load(arguments), f"{name} is a list of words"


def test_the_ignore_file_lets_through_what_is_copied() -> None:
    kept = [line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    for sources, _ in copied(DEPLOY / "Dockerfile"):
        assert all(any(Path(source).match(pattern) for pattern in kept) for source in sources), sources


@pytest.mark.parametrize("folder", CONTAINERS, ids=as_id)
def test_images_hold_what_is_run(folder: Path) -> None:
    inside: dict[str, str] = {}
    for sources, target in copied(folder / "Dockerfile"):
        for source in sources:
            for file in folder.glob(source):
                inside[f"{target}{file.name}" if target.endswith("/") else target] = file.name
    assert inside["/etc/litefs.yml"] == "litefs.container.yml"
    config = container_config(folder, {})
    programs = [word for entry in config.exec for word in from_entry(entry).argv if word.endswith((".py", ".mjs"))]
    assert programs or folder.name == "flask"
    assert not [name for name in programs if f"./{name}" not in inside]
    imported = re.findall(r'from "\./([\w.]+)"', "".join(file.read_text() for file in folder.glob("*.mjs")))
    assert not [name for name in imported if f"./{name}" not in inside]


# ------------------------------------------------------------------------------------- Docker Compose and Fly


def container_config(folder: Path, environment: Mapping[str, str]) -> Config:
    text = (folder / "litefs.container.yml").read_text()
    config = loads(text, plugins=load(), environment={"CONSUL_URL": "http://c", "HOSTNAME": "h", **environment})
    assert not config.warnings
    return config


@pytest.mark.parametrize("folder", CONTAINERS, ids=as_id)
def test_compose(folder: Path) -> None:
    tree = read(folder / "compose.yml")
    services = tree["services"]
    for name in ("a", "b"):
        node = services[name]
        config = container_config(folder, {**node["environment"], "HOSTNAME": node["hostname"]})
        assert config.lease.advertise_url == f"http://{name}:20202"
        assert config.lease.candidate
        assert config.lease.section["url"] == "http://consul:8500"
        assert config.section("proxy")["redirect"] == "forward"
        assert [published.rpartition(":")[2] for published in node["ports"]] == ["8080", "20202"]
        assert (port(config.proxy.addr), config.http.port) == (8080, 20202)
        assert [volume.split(":") for volume in node["volumes"]] == [[name, str(config.data.dir)]]
        assert (node["devices"], node["cap_add"]) == (["/dev/fuse"], ["SYS_ADMIN"])
        assert set(node["depends_on"]) <= set(services)
    assert set(tree["volumes"]) == {
        volume.split(":")[0] for node in services.values() for volume in node.get("volumes", [])
    }
    build = services["litefs"]["build"]
    assert (folder / build["context"] / build["dockerfile"]).samefile(DEPLOY / "Dockerfile")
    arguments = dict(word.split("=") for name, word in instructions(folder / "Dockerfile") if name == "ARG")
    assert services["litefs"]["image"] == arguments["LITEFS_IMAGE"]


@pytest.mark.parametrize("folder", CONTAINERS, ids=as_id)
def test_fly(folder: Path) -> None:
    with open(folder / "fly.toml", "rb") as file:
        tree = tomllib.load(file)
    machine = {"HOSTNAME": "178e4", "FLY_APP_NAME": tree["app"], "PRIMARY_REGION": tree["primary_region"]}
    machine |= {"CONSUL_URL": "", "FLY_CONSUL_URL": "https://:token@consul.example/x/", **tree["env"]}
    for region, candidate in [(tree["primary_region"], True), ("ord", False)]:
        config = container_config(folder, {**machine, "FLY_REGION": region})
        assert config.lease.candidate is candidate
    assert config.lease.advertise_url == f"http://178e4.vm.{tree['app']}.internal:20202"
    assert config.lease.section["url"] == machine["FLY_CONSUL_URL"]
    assert config.section("proxy")["redirect"] == "fly-replay"
    assert tree["http_service"]["internal_port"] == port(config.proxy.addr)
    assert [check["path"] for check in tree["http_service"]["checks"]] == ["/litefs/health"]
    assert tree["mounts"]["destination"] == str(config.data.dir)
    assert (folder / tree["build"]["dockerfile"]).exists()


# ------------------------------------------------------------------------------------------------ Kubernetes


@pytest.fixture(scope="module")
def objects() -> dict[tuple[str, str], dict[str, Any]]:
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes.yml").read_text()))
    assert all(document["apiVersion"] for document in documents)
    found = {(document["kind"], document["metadata"]["name"]): document for document in documents}
    assert len(found) == len(documents)
    return found


def test_kubernetes(objects: dict[tuple[str, str], dict[str, Any]], tmp_path: Path) -> None:
    spec = objects["StatefulSet", "app"]["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    labels = spec["template"]["metadata"]["labels"]
    for selector in [spec["selector"]["matchLabels"], *(find["spec"]["selector"] for find in services(objects))]:
        assert selector.items() <= labels.items()
    # What is mounted is there: templates of claims, the configuration, the token.
    volumes = {
        volume["name"]: volume for volume in [*pod["volumes"], *(c["metadata"] for c in spec["volumeClaimTemplates"])]
    }
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    settings = objects["ConfigMap", mounts["/etc/litefs.yml"]["configMap"]["name"]]["data"]
    (tmp_path / "token").write_text("x" * 64)
    text = settings["litefs.yml"].replace("/etc/litefs/token", str(tmp_path / "token"))
    config = loads(text, plugins=load(), environment={"HOSTNAME": "app-1"})
    assert "/etc/litefs" in mounts
    assert str(config.data.dir) in mounts
    # Nodes find each other by the headless service, clients the proxy by the other.
    assert config.lease.advertise_url == f"http://app-1.{spec['serviceName']}:{config.http.port}"
    assert objects["Service", spec["serviceName"]]["spec"]["publishNotReadyAddresses"] is True
    ports = {item["name"]: item["containerPort"] for item in container["ports"]}
    assert ports == {"litefs": config.http.port, "proxy": port(config.proxy.addr)}
    assert {item.get("targetPort", item["port"]) for find in services(objects) for item in find["spec"]["ports"]} == {
        "proxy",
        *ports.values(),
    }
    probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("liveness", "readiness")]
    assert [probe["path"] for probe in probes] == ["/livez", "/readyz"]
    assert all(probe["port"] in ports and probe["path"] in config.http.auth_exempt for probe in probes)
    assert container["securityContext"]["privileged"] is True


def services(objects: dict[tuple[str, str], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for (kind, _), document in objects.items():
        if kind == "Service":
            yield document


# -------------------------------------------------------------------------------------------------- systemd


def test_the_systemd_unit(tmp_path: Path) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "litefs.service")
    service = unit["Service"]
    config = yaml.safe_load((DEPLOY / "litefs.yml").read_text())
    assert config["data"]["dir"] == f"/var/lib/{service['StateDirectory']}"
    assert (service["Type"], service["KillMode"]) == ("notify", "mixed")
    analyze = find_tool("systemd-analyze", "the unit was read, but not verified")
    # It wants the program to exist.
    text = (DEPLOY / "litefs.service").read_text().replace("/opt/litefs/bin/litefs", sys.executable)
    (tmp_path / "litefs.service").write_text(text)
    done = subprocess.run([analyze, "verify", tmp_path / "litefs.service"], capture_output=True, text=True, timeout=60)
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if "litefs" in line]
    assert not complaints
