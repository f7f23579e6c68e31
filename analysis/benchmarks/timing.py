"""Contenders take turns, so that other work on the machine slows them all alike."""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Work = Callable[[], Any]


@dataclass(frozen=True)
class Times:
    """Seconds of every repeat, by the wall clock and by this process's CPU time."""

    wall: tuple[float, ...]
    cpu: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """The median CPU time: what other processes take of the machine is not in it."""
        return statistics.median(self.cpu)


def take_turns(contenders: Mapping[str, Work], repeats: int) -> dict[str, Times]:
    """Each contender once, `repeats` times over, after nothing but what the caller warmed up himself."""
    wall: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, work in contenders.items():
            wall_start, cpu_start = time.perf_counter(), time.process_time()
            work()
            wall[name].append(time.perf_counter() - wall_start)
            cpu[name].append(time.process_time() - cpu_start)
    return {name: Times(tuple(wall[name]), tuple(cpu[name])) for name in contenders}


def ratio(times: Mapping[str, Times], slow: str, fast: str) -> float:
    """How many times longer `slow` takes: the median over turns of the ratio within a turn, by CPU time."""
    return statistics.median(a / b for a, b in zip(times[slow].cpu, times[fast].cpu, strict=True))


def peak_megabytes(work: Work) -> float:
    """How far the resident set of a forked child grows above where it stood before `work` (ru_maxrss).

    Everything is in it, also what the allocator keeps; weights that were there before are not.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            work()
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            os.write(write, str(grown / 1024).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return float(answer)
