"""Finished runs on one HTML page that needs nothing else: tables, figures, settings, and what they were made with."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd

from . import runs, study
from .files import write_text
from .tables import shown

STYLE = """
:root { color-scheme: light dark; --text: #1c1c1c; --faint: #5f5f5f; --ground: #ffffff;
  --line: #d9d9d9; --head: #f3f3f3; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e6e6; --faint: #a3a3a3; --ground: #17181a; --line: #3a3c40; --head: #222428; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--ground);
       max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; }
h2 { font-size: 1.25rem; margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1.5rem; }
.faint, nav { color: var(--faint); } a { color: inherit; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: 0.2rem 0.7rem 0.2rem 0; text-align: left; white-space: nowrap; }
thead th { background: var(--head); }
figure { margin: 1.5rem 0; } figure img { background: #fff; padding: 0.5rem; border-radius: 4px;
  max-width: 100%; zoom: 1.3; }
summary { cursor: pointer; } pre { font-size: 0.8rem; white-space: pre-wrap; }
"""


def write_report(directory: Path, out: Path) -> Path:
    """Gather the runs in a directory. Raises ValueError if it holds none."""
    found = {path.stem: runs.read(path) for path in sorted(directory.glob("*.jsonl"))}
    if not found:
        raise ValueError(f"{directory} holds no runs (*.jsonl): run a study first, with --out {directory}.")
    contents = " · ".join(f'<a href="#{html.escape(name)}">{html.escape(name)}</a>' for name in found)
    sections = "\n".join(_section(name, run) for name, run in found.items())
    date = datetime.now(timezone.utc).isoformat(timespec="minutes")
    write_text(
        out,
        f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>grains_lens: studies</title><style>{STYLE}</style></head><body>
<h1>grains_lens: studies</h1>
<p class="faint">Gathered {date}. Numbers in brackets are 95% bootstrap intervals over models and
draws of pairs.</p>
<nav>{contents}</nav>
{sections}
</body></html>
""",
        argument="--out",
    )
    return out


def _section(name: str, run: runs.Run) -> str:
    asked = study.load(run.study)
    cells = f"{len(run.finished)} of {run.wanted} cells" + (
        ", unfinished" if len(run.finished) < run.wanted else ""
    )
    frame = run.frame()
    if frame.empty:
        body = "<p>No cell is finished yet.</p>"
    else:
        body = f"{_figure(asked, frame, name)}\n{_table(asked.table(frame))}"
    return f"""<section><h2 id="{html.escape(name)}">{html.escape(name)}</h2>
<p><strong>{html.escape(asked.QUESTION)}</strong></p>
<p class="faint">{html.escape(_made_with(run.sessions))} {cells}, {len(frame)} rows.</p>
{body}
<details><summary>Settings</summary><pre>{html.escape(json.dumps(run.settings, indent=1))}</pre></details>
<details><summary>Versions</summary><pre>{html.escape(json.dumps(list(run.sessions), indent=1))}</pre></details>
</section>"""


def _made_with(sessions: Sequence[Mapping[str, Any]]) -> str:
    revisions = ", ".join(dict.fromkeys(str(one["revision"]) for one in sessions))
    dates = " to ".join(dict.fromkeys(str(one["date"]) for one in (sessions[0], sessions[-1])))
    return f"Revision {revisions}, {dates}."


def _figure(asked: study.Study, frame: pd.DataFrame, name: str) -> str:
    buffer = io.BytesIO()
    asked.figure(frame).savefig(buffer, format="svg")
    data = base64.b64encode(buffer.getvalue()).decode()
    # As an image: the identifiers inside one SVG then cannot meet those of another.
    return f'<figure><img alt="{html.escape(name)}" src="data:image/svg+xml;base64,{data}"></figure>'


def _table(table: pd.DataFrame) -> str:
    return f'<div class="wide">{shown(table).to_html(index=False, border=0, escape=True)}</div>'
