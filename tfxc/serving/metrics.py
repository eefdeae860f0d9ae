"""What a server has done, for Prometheus."""

import os
from typing import TYPE_CHECKING

from tfxc.core.errors import missing_package
from tfxc.serving.processes import METRICS_FOLDER

with missing_package("serve"):
    from prometheus_client import (
        CollectorRegistry,
        Counter,
        Gauge,
        Histogram,
        ProcessCollector,
        generate_latest,
        multiprocess,
    )

if TYPE_CHECKING:
    from tfxc.serving.served import Catalog


#: Of what ``Metrics.text`` returns.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_EXAMPLES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Counters of one server, all of its processes together.

    Attributes:
        in_flight: number of requests that are being answered.

    Example:
        >>> metrics = Metrics()
        >>> metrics.answered("/predict", 200, 0.01)
        >>> 'tfxc_requests_total{route="/predict",status="200"} 1.0' in metrics.text().decode()
        True
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self._registry = registry = CollectorRegistry()
        if METRICS_FOLDER not in os.environ:  # else there are several
            ProcessCollector(registry=registry)
        self._requests = Counter(
            "tfxc_requests", "requests answered", ["route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "tfxc_request_seconds",
            "from a request to its answer",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._batches = Histogram(
            "tfxc_batch_examples",
            "examples searched at once",
            ["model"],
            buckets=_EXAMPLES,
            registry=registry,
        )
        self._gauges = {
            name: Gauge(f"tfxc_{name}", text, ["model"], registry=registry)
            for name, text in (
                ("waiting_examples", "examples that wait for their search"),
                ("model_version", "version that is served"),
            )
        }

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Counts an answer.

        Args:
            route: pattern of the address, not the address: there are few.
            status: of HTTP.
            seconds: since the request arrived.
        """
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def searched(self, model: str, examples: int) -> None:
        """Counts a batch."""
        self._batches.labels(model).observe(examples)

    def text(self, catalog: "Catalog | None" = None) -> bytes:
        """Returns everything in Prometheus' text format.

        Args:
            catalog: whose queues and versions are shown.
        """
        if METRICS_FOLDER in os.environ:
            # What one process knows of its queue and versions says nothing of the others.
            together = CollectorRegistry()
            multiprocess.MultiProcessCollector(together)
            return generate_latest(together)
        for name, slot in catalog.slots.items() if catalog else ():
            served = slot.current
            self._gauges["waiting_examples"].labels(name).set(served.batcher.waiting)
            self._gauges["model_version"].labels(name).set(served.number)
        return generate_latest(self._registry)
