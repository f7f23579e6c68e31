"""Names of files in shared output: without their parent folders, which name people and machines, and with a
digest that distinguishes them from other files of the same name."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath, PureWindowsPath


def named(path: str | Path) -> str:
    """The last name of a file or folder, with a digest of its content: `llama (sha256 0123456789abcdef)`.

    A folder's digest covers the names and contents of its files, without hidden files, notes (*.md) and
    subfolders. If nothing exists at `path`, the result has no digest: an absolute path becomes its last name,
    and anything else (such as a model's name on a hub) stays unchanged. Every byte is read.
    """
    place = Path(path)
    if not place.exists():
        return without_folders(str(path))
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    found = hashlib.sha256()
    for file in files:
        if file.is_file() and (file == place or not (file.name.startswith(".") or file.suffix == ".md")):
            name = file.name.encode() if file != place else b""
            found.update(hashlib.sha256(name).digest() + _digest(file))
    return f"{place.resolve().name} (sha256 {found.hexdigest()[:16]})"


def without_folders(text: str) -> str:
    """The last name of an absolute path; any other text unchanged."""
    absolute = PurePosixPath(text).is_absolute() or text.startswith("~")
    if absolute or PureWindowsPath(text).is_absolute():
        return (PurePosixPath(text) if absolute else PureWindowsPath(text)).name
    return text


def _digest(file: Path) -> bytes:
    found = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(2**20):
            found.update(block)
    return found.digest()
