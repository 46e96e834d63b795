"""How many connections there may be, so that the node's databases never lack file descriptors."""

from __future__ import annotations

import resource

WANTED = 20_000  # file descriptors that the process asks for where its limit can be raised
RESERVED = 256  # kept for the node; without them commits would fail


def connections_allowed() -> int:
    """Connections of clients, each of which may need one to the application."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < WANTED:
        soft = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    files = WANTED if soft == resource.RLIM_INFINITY else soft
    return max(16, (files - RESERVED) // 2)
