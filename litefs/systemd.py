"""Telling systemd how far the service is (``Type=notify``), as sd_notify(3) describes it.

A datagram of ``KEY=value`` lines goes to the socket that ``NOTIFY_SOCKET`` names. Everything here is a no-op where
that variable is not set.
"""

from __future__ import annotations

import os
import socket


def notify(**state: str) -> bool:
    """Send assignments, for example ``notify(READY="1", STATUS="primary")``; whether a service manager got them.

    Never raises: a service manager that went away must not take the node with it.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    message = "\n".join(f"{key}={value}" for key, value in state.items())
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as channel:
            channel.sendto(message.encode(), address)
    except OSError:
        return False
    return True
