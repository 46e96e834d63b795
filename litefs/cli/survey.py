"""What every node of a cluster says of itself, asked from here: the node at hand first, then those it knows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from litefs.cli.access import Access
from litefs.cli.api import APIError, NodeAPI, NotFound
from litefs.errors import LitefsError

ASK_LIMIT = 5.0  # seconds for a node to answer
AT_ONCE = 16  # nodes asked at the same time
MOST = 128  # nodes that are asked: one that makes up others must not keep us busy for good

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node, as far as it can be known.

    Attributes:
        url: where it was asked.
        hostname, id: as it says, or as others say of it.
        role: ``primary``, ``replica``, ``looking``; empty where it did not answer.
        candidate: whether it may become primary; None where that is not known.
        databases: what it says of each, by name; None for a node of LiteFS, which does not tell.
        error: why there is no answer; empty where there is one.
        answer: all of it.
    """

    url: str
    hostname: str = ""
    id: str = ""
    role: str = ""
    candidate: bool | None = None
    ready: bool | None = None
    lag_ms: int | None = None
    cluster_id: str = ""
    databases: Mapping[str, Json] | None = None
    error: str = ""
    answer: Json = field(default_factory=dict, repr=False)

    @property
    def is_primary(self) -> bool:
        """Whether it says that it is."""
        return self.role == "primary"

    @property
    def name(self) -> str:
        """How it is shown."""
        return self.hostname or self.id or self.url

    def is_called(self, target: str) -> bool:
        """Whether a person means this node: by host name, node id or URL."""
        return target in (self.hostname, self.url) or (bool(self.id) and target.upper() == self.id.upper())


def ask(access: Access) -> NodeStatus:
    """What one node says.

    Raises:
        APIError: it does not answer, or refuses.
    """
    with NodeAPI(access, limit=ASK_LIMIT) as node:
        try:
            return _of_status(node.url, node.status())
        except NotFound:
            return _of_info(node.url, node.info())


def survey(access: Access) -> list[NodeStatus]:
    """Every node that can be found from one: those that it knows, and those they know.

    Raises:
        APIError: the first one does not answer, or refuses.
    """
    first = ask(access)
    found = {first.url: first}
    waiting = dict(_others(first))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while waiting := _new(waiting, found):
            asked = list(pool.map(lambda known: _ask_known(access, known), waiting.values()))
            found.update(zip(waiting, asked, strict=True))
            waiting = {key: known for node in asked for key, known in _others(node)}
    return sorted(_distinct(found.values()), key=lambda node: (not node.is_primary, node.name))


def _new(told: Mapping[str, NodeStatus], found: Mapping[str, NodeStatus]) -> dict[str, NodeStatus]:
    """Those that are not known yet, as long as there are not more nodes than a cluster has."""
    new = ((key, node) for key, node in told.items() if key not in found)
    return dict(islice(new, max(0, MOST - len(found))))


def _distinct(nodes: Iterable[NodeStatus]) -> Iterator[NodeStatus]:
    """Each node once, though it may go by several addresses; those without an address are only heard of."""
    seen = set()
    for node in nodes:
        if not node.id or node.id not in seen:
            yield node
        seen.add(node.id)


def _ask_known(access: Access, known: NodeStatus) -> NodeStatus:
    if not known.url:
        return replace(known, role="replica")  # connected to the primary, and has not said more: one of LiteFS
    if access.url.startswith("https:") and known.url.startswith("http:"):
        return replace(known, error="its address is a plain http one: the token is not sent there")
    try:
        found = ask(replace(access, url=known.url))
    except LitefsError as error:
        return replace(known, error=str(error))
    return replace(found, url=known.url, hostname=found.hostname or known.hostname, id=found.id or known.id)


def _others(node: NodeStatus) -> Iterator[tuple[str, NodeStatus]]:
    """The nodes that a node has told of, by address."""
    told: Sequence[Json] = [*_list(node.answer.get("members")), *_list([node.answer.get("primary")])]
    for item in told:
        candidate = item.get("candidate")
        known = NodeStatus(
            str(item.get("advertiseURL", "")).rstrip("/"),
            hostname=str(item.get("hostname", "")),
            id=_id(item.get("id")),
            candidate=candidate if isinstance(candidate, bool) else None,
        )
        if known.url or known.id:
            yield known.url or known.id, known


def _address(answer: Json, url: str) -> str:
    """The address that a node goes by, or the one it was asked at: a static lease gives replicas their primary's."""
    own, primary = answer.get("advertiseURL"), answer.get("primary")
    borrowed = answer.get("role") != "primary" and isinstance(primary, dict) and primary.get("advertiseURL") == own
    return url if borrowed or not isinstance(own, str) or not own else own.rstrip("/")


def _of_status(url: str, answer: Json) -> NodeStatus:
    databases = answer.get("databases")
    lag = answer.get("lagMs")
    return NodeStatus(
        _address(answer, url),
        hostname=str(answer.get("hostname", "")),
        id=str(answer.get("id", "")),
        role=str(answer.get("role", "")),
        candidate=bool(answer.get("candidate")),
        ready=bool(answer.get("ready")),
        lag_ms=lag if isinstance(lag, int) else None,
        cluster_id=str(answer.get("clusterID", "")),
        databases={name: item for name, item in databases.items() if isinstance(item, dict)}
        if isinstance(databases, dict)
        else {},
        answer=answer,
    )


def _of_info(url: str, answer: Json) -> NodeStatus:
    """A node of LiteFS: it tells its role and who the primary is, but not its own name."""
    primary = bool(answer.get("isPrimary"))
    known = answer.get("primary")
    hostname = str(known.get("hostname", "")) if isinstance(known, dict) else ""
    return NodeStatus(
        url,
        hostname=hostname if primary else "",
        role="primary" if primary else "replica" if hostname else "looking",
        candidate=bool(answer.get("candidate")),
        cluster_id=str(answer.get("clusterID", "")),
        answer=answer,
    )


def _id(value: object) -> str:
    """A node's id; empty where those who tell of it do not know it either, which is a zero."""
    return value if isinstance(value, str) and value.strip("0") else ""


def _list(value: object) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def problems(nodes: Sequence[NodeStatus]) -> list[str]:
    """What is wrong with a cluster, in sentences; nothing where it is healthy."""
    found = [f"{node.name} does not answer: {node.error}" for node in nodes if node.error]
    primaries = [node.name for node in nodes if node.is_primary]
    if not primaries:
        found.append("there is no primary")
    elif len(primaries) > 1:
        found.append(f"more than one node says that it is primary: {', '.join(primaries)}")
    clusters = {node.cluster_id for node in nodes if node.cluster_id}
    if len(clusters) > 1:
        found.append(f"the nodes belong to different clusters: {', '.join(sorted(clusters))}")
    return [*found, *_failures(nodes)]


def _failures(nodes: Sequence[NodeStatus]) -> Iterator[str]:
    for node in nodes:
        names = sorted(name for name, item in (node.databases or {}).items() if item.get("failed"))
        if names:
            listed = ", ".join(f'"{name}"' for name in names)
            yield f"the disk of {node.name} has failed to store {listed}: no commits until that node is started again"


def resolve(access: Access, target: str) -> Access:
    """How to reach the node that a person means, by host name, node id or URL.

    Raises:
        APIError: the node at hand knows none of that name, or several.
    """
    if target.startswith(("http://", "https://")):
        return replace(access, url=target)
    nodes = survey(access)
    matching = [node for node in nodes if node.is_called(target)]
    if len(matching) == 1:
        return replace(access, url=matching[0].url)
    known = ", ".join(f"{node.name} ({node.url})" for node in nodes)
    if matching:
        raise APIError(f"several nodes are called {target}", f"use an id or a URL: {known}")
    raise APIError(f"no node is called {target}", f"known here: {known}")
