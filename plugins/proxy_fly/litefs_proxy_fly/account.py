"""What is to be said of one request when it is over."""

from __future__ import annotations

from litefs_proxy_fly.heads import Request


class Account:
    """Is filled in while the request is served.

    Args:
        began: when its first bytes were there, by `time.monotonic`.
        request: its head; None where that could not be read.

    Attributes:
        outcome: the last thing that became of it; empty before there is any.
        status: of the answer; 0 while there is none.
        sent: bytes of the answer's body, its framing included.
        waited: seconds until it could be decided where it goes; None where that was clear at once.
        answered: when the head of the application's answer was there, by `time.monotonic`; 0 where there was none.
    """

    __slots__ = ("answered", "began", "outcome", "request", "sent", "status", "waited")

    def __init__(self, began: float, request: Request | None) -> None:
        self.began = began
        self.request = request
        self.outcome = ""
        self.status = 0
        self.sent = 0
        self.waited: float | None = None
        self.answered = 0.0
