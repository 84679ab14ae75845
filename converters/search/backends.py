"""Where the attempts of a search run: processes here, or a Dask or Ray cluster that is there already, through joblib."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from tflnest.errors import TflnestError, UsageError
from tflnest.schema import require_extra

#: Names that joblib knows.
BACKENDS = ("loky", "threading", "dask", "ray")

#: Where Dask's own tools look for the scheduler.
DASK_ADDRESS = "DASK_SCHEDULER_ADDRESS"

#: Seconds to find the scheduler.
CONNECT_SECONDS = 10


def check_backend(name: str, cluster: str | None) -> None:
    """Refuse what makes no sense before any work is done.

    Raises:
        UsageError: There is no such backend, or it takes no address.
    """
    if name not in BACKENDS:
        raise UsageError(f"there is no backend {name!r}", f"backends: {', '.join(BACKENDS)}")
    if cluster is not None and name not in ("dask", "ray"):
        raise UsageError(
            f"an address of a cluster is given, and the backend {name} runs here",
            "choose --backend dask or ray",
        )


@contextmanager
def running(name: str, jobs: int, shared: Any, cluster: str | None = None) -> Iterator[None]:
    """Send joblib's jobs to a backend in a `with` block.

    Args:
        name: One of `BACKENDS`.
        jobs: How many at a time; -1 for as many as there are cores.
        shared: What all jobs need; Dask gets it once.
        cluster: Address of the cluster; None takes the client or the connection that this process has, else what the
            environment names (`DASK_SCHEDULER_ADDRESS`, `RAY_ADDRESS`).

    Raises:
        UsageError: There is no such backend.
        MissingExtraError: The cluster's package is not installed.
        TflnestError: The cluster can't be reached.
    """
    check_backend(name, cluster)
    import joblib

    if name not in ("dask", "ray"):
        with joblib.parallel_config(backend=name, n_jobs=jobs):
            yield
        return
    connected = _dask(cluster) if name == "dask" else _ray(cluster)
    options = {"scatter": [shared]} if name == "dask" else {}
    with connected, joblib.parallel_config(backend=name, n_jobs=jobs, **options):
        yield


def results(name: str, calls: Sequence[Any]) -> Iterator[Any]:
    """Results of joblib's delayed calls, each as soon as it is there, inside `running`.

    Ray's joblib backend hands over whole lists: there they come in groups of as many as run at a time.
    """
    import joblib

    if name != "ray":
        yield from joblib.Parallel(return_as="generator_unordered", batch_size=1)(calls)
        return
    group = joblib.effective_n_jobs()
    for first in range(0, len(calls), group):
        yield from joblib.Parallel(batch_size=1)(calls[first : first + group])


@contextmanager
def _dask(cluster: str | None) -> Iterator[None]:
    """A client of the scheduler; one that this process has already stays open."""
    distributed = require_extra("distributed", "dask", "to run attempts on a Dask cluster")
    address = cluster or os.environ.get(DASK_ADDRESS)
    if address is None:
        try:
            distributed.get_client()
        except ValueError:
            raise UsageError(
                "no Dask cluster is named",
                f"give its address with --cluster tcp://HOST:8786, or set {DASK_ADDRESS}",
            ) from None
        yield
        return
    try:
        client = distributed.Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise TflnestError(
            f"no Dask scheduler answers at {address}: {error}",
            "start it with: dask scheduler; dask worker ADDRESS",
        ) from error
    with client:
        yield


def _ray(cluster: str | None) -> AbstractContextManager[None]:
    """A connection to the cluster; one that this process has already stays open."""
    ray = require_extra("ray", "ray", "to run attempts on a Ray cluster")
    joblib_backend = require_extra("ray.util.joblib", "ray", "to run attempts on a Ray cluster")

    @contextmanager
    def connected() -> Iterator[None]:
        joblib_backend.register_ray()
        if ray.is_initialized():
            yield
            return
        try:
            ray.init(address=cluster or "auto", log_to_driver=False, logging_level="error")
        except ConnectionError as error:
            raise TflnestError(
                f"no Ray cluster answers: {error}",
                "start it with: ray start --head; or give its address (--cluster)",
            ) from error
        try:
            yield
        finally:
            ray.shutdown()

    return connected()
