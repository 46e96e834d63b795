"""What became of requests, counted for ``/metrics``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

FORWARDED, TO_PRIMARY, REFUSED = "forwarded", "to-primary", "refused"


class Outcomes:
    """Requests of this process by outcome; a collector of Prometheus.

    Outcomes are ``forwarded`` to the application, ``to-primary``, those of `answers.Answer`, and ``refused``.
    """

    def __init__(self) -> None:
        self.counts = dict.fromkeys((FORWARDED, TO_PRIMARY, "replayed", "redirected", "stale", "no-primary"), 0)
        self.counts |= dict.fromkeys(("health", "failed", REFUSED), 0)

    def add(self, outcome: str) -> None:
        """One more."""
        self.counts[outcome] = self.counts.get(outcome, 0) + 1

    def collect(self) -> Iterator[Metric]:
        """One counter with a label for the outcome."""
        from prometheus_client.core import CounterMetricFamily  # late: it would delay the mount

        text = "Requests that the proxy has dealt with, by what became of them."
        family = CounterMetricFamily("litefs_proxy_requests", text, labels=["outcome"])
        for outcome, count in self.counts.items():
            family.add_metric([outcome], count)
        yield family


OUTCOMES = Outcomes()
