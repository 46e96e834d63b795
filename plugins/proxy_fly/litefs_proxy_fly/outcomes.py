"""What became of requests and how long it took, counted for ``/metrics``."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

FORWARDED, TO_PRIMARY, TO_NODE, REFUSED, LATE, GONE = "forwarded", "to-primary", "to-node", "refused", "late", "gone"
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds


class Durations:
    """A histogram."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self._sum += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bounds, and how many were not longer."""
        total, found = 0, []
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), self._counts, strict=True):
            total += count
            found.append((bound, float(total)))
        return found

    @property
    def sum(self) -> float:
        """Seconds of all together."""
        return self._sum


class Outcomes:
    """Requests of this process by outcome; a collector of Prometheus.

    Outcomes are ``forwarded`` to the application, ``to-primary``, those of `answers.Answer`, ``refused``, ``late`` when
    a time limit ended them, and ``gone`` when the client left before its answer was complete.

    Attributes:
        waits: of reads for a position, of writes for a primary.
        connections: of clients, at present.
    """

    def __init__(self) -> None:
        self.counts = dict.fromkeys(
            (FORWARDED, TO_PRIMARY, TO_NODE, "replayed", "redirected", "stale", "no-primary"), 0
        )
        self.counts |= dict.fromkeys(("diverged", "health", "failed", REFUSED, LATE, GONE), 0)
        self.waits = Durations()
        self.connections = 0
        self._durations: dict[str, Durations] = {}

    def add(self, outcome: str) -> None:
        """One more."""
        self.counts[outcome] = self.counts.get(outcome, 0) + 1

    def ended(self, outcome: str, seconds: float) -> None:
        """A request whose last outcome this was took so long."""
        durations = self._durations.get(outcome)
        if durations is None:
            durations = self._durations[outcome] = Durations()
        durations.add(seconds)

    def collect(self) -> Iterator[Metric]:
        """Counter and histogram with a label for the outcome, histogram of waits, connections."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        text = "Requests that the proxy has dealt with, by what became of them."
        family = CounterMetricFamily("litefs_proxy_requests", text, labels=["outcome"])
        for outcome, count in self.counts.items():
            family.add_metric([outcome], count)
        yield family
        text = "From the first bytes of a request to the last of its answer."
        durations = HistogramMetricFamily("litefs_proxy_request_seconds", text, labels=["outcome"])
        for outcome, each in self._durations.items():
            durations.add_metric([outcome], each.buckets(), each.sum)
        yield durations
        text = "Waits of reads for a position and of writes for a primary."
        yield HistogramMetricFamily("litefs_proxy_wait_seconds", text, self.waits.buckets(), self.waits.sum)
        yield GaugeMetricFamily("litefs_proxy_connections", "Connections of clients.", self.connections)


OUTCOMES = Outcomes()
