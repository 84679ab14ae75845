"""Searches on clusters: the same result as here."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from converters.search.backends import DASK_ADDRESS, check_backend, running
from converters.search.trials import Score, Trials
from tflnest.errors import MissingExtraError, TflnestError, UsageError

ASSIGNMENTS = [(8, 8), (2, 4), (4, 2), (6, 6)]


@dataclass(frozen=True)
class Formula:
    """Accuracy rises with the bits."""

    def __call__(self, widths: tuple[int, ...]) -> Score:
        return Score(90.0 - math.fsum(width**-2.0 for width in widths), np.full(3, 0.5, np.float32))

    def key(self) -> str:
        return "formula"


def measured(**options):
    return Trials(Formula(), jobs=2, **options)(ASSIGNMENTS)


@pytest.fixture(scope="module")
def here():
    return measured(backend="threading")


def test_an_address_is_for_clusters_alone():
    with pytest.raises(UsageError, match="the backend loky runs here"):
        check_backend("loky", "tcp://somewhere:8786")
    check_backend("dask", "tcp://somewhere:8786")


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_a_package_that_is_missing_is_named(backend, monkeypatch):
    import importlib

    real = importlib.import_module

    def without(name, *rest):
        if name.split(".")[0] in ("distributed", "ray"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr("tflnest.schema.importlib.import_module", without)
    with (
        pytest.raises(MissingExtraError, match=backend if backend == "ray" else "distributed"),
        running(backend, 1, None, "nowhere"),
    ):
        pass


@pytest.mark.slow
def test_processes_give_the_same(here):
    assert measured(backend="loky") == here


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same(here, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="dask is not installed")
    monkeypatch.delenv(DASK_ADDRESS, raising=False)
    with pytest.raises(UsageError, match="no Dask cluster is named"):
        measured(backend="dask")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        assert measured(backend="dask", cluster=cluster.scheduler_address) == here
        monkeypatch.setenv(DASK_ADDRESS, cluster.scheduler_address)
        assert measured(backend="dask") == here
        monkeypatch.delenv(DASK_ADDRESS)
        with distributed.Client(cluster):
            assert measured(backend="dask") == here


@pytest.mark.slow
def test_a_dask_scheduler_that_does_not_answer_is_an_error(monkeypatch):
    pytest.importorskip("distributed", reason="dask is not installed")
    monkeypatch.setattr("converters.search.backends.CONNECT_SECONDS", 1)
    with pytest.raises(TflnestError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        measured(backend="dask", cluster="tcp://127.0.0.1:9")


@pytest.mark.slow
def test_a_ray_cluster_gives_the_same(here, monkeypatch):
    ray = pytest.importorskip("ray", reason="ray is not installed")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(TflnestError, match="no Ray cluster answers"):
        measured(backend="ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        assert measured(backend="ray") == here
    finally:
        ray.shutdown()
