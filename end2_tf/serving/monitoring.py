"""What a server tells Prometheus about itself, and about how sure its models are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import prometheus_client as prometheus
from prometheus_client import core

PATH = "/monitoring/prometheus/metrics"  # TensorFlow Serving's
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Monitor:
    """Counters of one server.

    Args:
        queued: Returns the inputs that wait, by model.
    """

    def __init__(self, queued: Callable[[], Iterable[tuple[str, int]]]):
        self.registry = prometheus.CollectorRegistry()
        self._requests = prometheus.Counter(
            "end2_tf_requests", "Requests answered.", ("model", "api", "code"), registry=self.registry
        )
        self._seconds = prometheus.Histogram(
            "end2_tf_request_seconds",
            "Time to predict, of requests that were answered.",
            ("model", "api"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._sizes = prometheus.Histogram(
            "end2_tf_batch_size", "Inputs run together.", ("model",), buckets=_SIZES, registry=self.registry
        )
        self._inputs = prometheus.Counter("end2_tf_inputs", "Inputs predicted.", ("model",), registry=self.registry)
        self._abstained = prometheus.Counter(
            "end2_tf_abstained", "Inputs that `decide` abstained from.", ("model", "reason"), registry=self.registry
        )
        self.registry.register(_Queued(queued))  # type: ignore[arg-type]

    def request(self, model: str, api: str, code: str) -> None:
        """Counts a request; `model` is one that is served, or empty, so that requests can't make up names."""
        self._requests.labels(model, api, code).inc()

    def batch(self, model: str, size: int) -> None:
        """Counts a batch."""
        self._sizes.labels(model).observe(size)

    def answer(self, model: str, api: str, seconds: float, size: int, outputs: Mapping[str, np.ndarray]) -> None:
        """Counts the inputs that were predicted, in which time, and what was abstained from."""
        self._seconds.labels(model, api).observe(seconds)
        self._inputs.labels(model).inc(size)
        for reason in ("is_uncertain", "is_unfamiliar"):
            if reason in outputs:
                self._abstained.labels(model, reason.removeprefix("is_")).inc(int(outputs[reason].sum()))

    def text(self) -> bytes:
        """Returns all figures in Prometheus' text format."""
        return prometheus.generate_latest(self.registry)


class _Queued:
    def __init__(self, queued: Callable[[], Iterable[tuple[str, int]]]):
        self._queued = queued

    def collect(self) -> Iterable[core.GaugeMetricFamily]:
        gauge = core.GaugeMetricFamily("end2_tf_queued_inputs", "Inputs that wait.", labels=["model"])
        for model, num in self._queued():
            gauge.add_metric([model], num)
        yield gauge
