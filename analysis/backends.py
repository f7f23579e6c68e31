"""Where cells are measured: in this process, in other local processes, or on a Dask or Ray cluster."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import joblib

Backend = Literal["loky", "threading", "dask", "ray"]


@contextmanager
def workers(backend: Backend, jobs: int, address: str | None = None) -> Iterator[None]:
    """Inside this context, joblib sends its work to `jobs` workers of a backend.

    For Dask and Ray, these are the workers of the cluster at `address`, or of a local cluster of `jobs`
    processes that ends with the context. Raises ImportError, which says what to install, if the backend's
    package is missing.
    """
    if backend == "dask":
        with _dask(jobs, address), joblib.parallel_config("dask"):
            yield
    elif backend == "ray":
        with _ray(jobs, address), joblib.parallel_config("ray", n_jobs=jobs):
            yield
    elif backend == "loky":
        with joblib.parallel_config(
            "loky", n_jobs=jobs, idle_worker_timeout=30, initializer=follow, initargs=(os.getpid(),)
        ):
            yield
    else:
        with joblib.parallel_config(backend, n_jobs=jobs):
            yield


def follow(driver: int) -> None:
    """End this worker within a second after its driver, the process that started it, ends for any reason.

    A killed driver cannot notify its workers, and a worker in the middle of a cell would go on for nothing.
    Dask's workers check this themselves.
    """

    def look() -> None:
        while os.getppid() == driver:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=look, daemon=True, name="follow").start()


def results(backend: Backend, jobs: int, calls: Sequence[tuple[Callable[..., Any], Any]]) -> Iterator[Any]:
    """The results of the calls (function, arguments), each as soon as it is ready. Use it inside
    `workers(...)`."""
    work = [joblib.delayed(function)(*arguments) for function, arguments in calls]
    if backend == "ray":
        # Ray's joblib backend has no generator, so it gets this many cells at a time; a kill loses no more
        # than these.
        with joblib.Parallel(batch_size=1) as parallel:
            for start in range(0, len(work), jobs):
                yield from parallel(work[start : start + jobs])
    elif work:
        yield from joblib.Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch=2 * jobs)(work)


@contextmanager
def _dask(jobs: int, address: str | None) -> Iterator[None]:
    try:
        from dask.distributed import Client
    except ImportError as error:
        raise ImportError(
            'backend="dask" needs dask.distributed: pip install "grains-lens[cluster]".'
        ) from error
    local = {"n_workers": jobs, "threads_per_worker": 1, "dashboard_address": None}
    with Client(address) if address else Client(**local):
        yield


@contextmanager
def _ray(jobs: int, address: str | None) -> Iterator[None]:
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise ImportError('backend="ray" needs ray: pip install "grains-lens[ray]".') from error
    # Workers have this process's import path, and write their messages only to Ray's logs.
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    local: dict[str, Any] = {} if address else {"num_cpus": jobs, "include_dashboard": False}
    environment = {} if address else {"runtime_env": {"env_vars": {"PYTHONPATH": path}}}
    ray.init(address=address, log_to_driver=False, logging_level="ERROR", **local, **environment)
    try:
        register_ray()
        yield
    finally:
        ray.shutdown()
