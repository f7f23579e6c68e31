"""A study of nothing: numbers that depend on the cell alone, each after a moment."""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

from analysis import plots
from analysis.estimates import estimates
from analysis.subjects import Cell

QUESTION = "What is the mean of chance <b>?"


@dataclass(frozen=True)
class Settings:
    seeds: tuple[int, ...] = (0, 1)
    draws: int = 4
    seconds: float = 0.0
    traces: str | None = None


QUICK = Settings(draws=2)


def cells(settings):
    return [Cell(seed, "chance", draw) for seed in settings.seeds for draw in range(settings.draws)]


def measure(cell, settings):
    if settings.traces:
        (Path(settings.traces) / f"{os.getpid()}-{cell.seed}-{cell.draw}").touch(exist_ok=False)
    time.sleep(settings.seconds)
    chance = random.Random(f"{cell.seed}/{cell.draw}")
    return [{"part": part, "gain": chance.random()} for part in ("left", "right")]


def table(frame):
    return estimates(frame, ["behaviour", "part"], ["gain"])


def figure(frame):
    figure, (axes,) = plots.panels(1, width=plots.COLUMN)
    answer = table(frame)
    plots.bars(axes, answer, "gain", range(len(answer)))
    axes.set_xticks(range(len(answer)), answer["part"])
    return figure
