"""Files of pairs and questions for the command line."""

from __future__ import annotations

import json


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
