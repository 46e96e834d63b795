"""Waiting for what a primary does when it comes up: the commands that run once, before it says that it is ready."""

from __future__ import annotations

import logging
from email.utils import parsedate_to_datetime

import trio

from litefs.cluster.peers import PeerResponse, Peers
from litefs.cluster.role import Role
from litefs.errors import StreamError
from litefs.leases import PrimaryInfo

log = logging.getLogger(__name__)

INTERVAL = 0.5
"""Seconds between two questions whether the primary is ready, and between two looks at what has arrived."""

LIMIT = 5.0
"""Seconds for an answer."""


async def wait_done(peers: Peers, role: Role, primary: PrimaryInfo) -> None:
    """Wait until the primary is ready and everything that it wrote until then has been applied here.

    It is ready when ``GET /readyz`` says so. The answer has the primary's time; a heartbeat that bears a later one
    counts only once everything sent before it has been applied (`Role.heartbeat`). One from before this was called may
    be another primary's, whose clock says nothing here.
    """
    before = role.last_heartbeat_ms
    since = await _ready_since(peers, primary)
    while role.last_heartbeat_ms in (None, before) or (role.last_heartbeat_ms or 0) < since:
        await trio.sleep(INTERVAL)


async def _ready_since(peers: Peers, primary: PrimaryInfo) -> int:
    """Wait until it is ready: a time of its clock not before that, ms since the epoch. Cancelled by who asked."""
    told = ""
    while True:
        try:
            response = await peers.request("GET", primary.advertise_url, "/readyz", timeout=LIMIT)
        except StreamError as error:
            answer = str(error)
        else:
            if response.status == 404:
                log.info("primary %s does not tell whether it is ready: taken for it", primary.hostname)
                return _date_ms(response)
            if response.status == 200:
                return _date_ms(response)
            answer = response.text
        if answer != told:
            log.info("primary %s is not ready yet: %s", primary.hostname, answer)
            told = answer
        await trio.sleep(INTERVAL)


def _date_ms(response: PeerResponse) -> int:
    """The end of the second in which the answer was made; 0 where it does not say."""
    try:
        return (int(parsedate_to_datetime(response.headers["date"]).timestamp()) + 1) * 1000
    except (KeyError, ValueError):
        return 0
