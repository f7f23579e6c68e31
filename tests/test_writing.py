"""Files are written whole or not at all, to where the user means, with the user's mode; else one clear OSError."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys

import pytest

from grains_lens import show, writing
from tests.baselines.test_gated import untrained_gate
from tests.intervention.test_tunings import small_tuning
from tests.vectors.test_steering_vectors import make

KILLS = 6  # a count that `make reliability` may raise


def figure():
    return show.gains([show.Bar("truth", "ours", 0.5, 0.4, 0.6)], base={"truth": 0.4})


WRITERS = {
    "text": (lambda path: writing.write_text(path, "hello"), ".txt"),
    "vectors": (lambda path: make().save(path), ".safetensors"),
    "tuning": (lambda path: small_tuning().save(path), ".safetensors"),
    "gate": (lambda path: untrained_gate().save(path), ".safetensors"),
    "gguf": (lambda path: make(layers=(1, 2)).to_gguf(path), ".gguf"),
    "figure": (lambda path: show.save(figure(), path), ".png"),
}


@pytest.fixture(params=WRITERS)
def writer(request):
    """Every function that writes a file, and how the names of its files end."""
    return WRITERS[request.param]


@pytest.fixture
def write(writer):
    return writer[0]


@pytest.fixture
def ending(writer):
    return writer[1]


@pytest.fixture
def full_disk(monkeypatch):
    """The disk is full: what is written reaches the file in part."""
    monkeypatch.setattr(os, "fsync", out_of_space)


def out_of_space(descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(write, ending, full_disk, tmp_path):
    path = tmp_path / f"out{ending}"
    path.write_bytes(b"old")
    with pytest.raises(
        OSError, match=r"out\.\w+ cannot be written \(No space left on device\): make room"
    ) as caught:
        write(path)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [f"out{ending}"]


def test_an_interrupt_leaves_the_old_file_and_nothing_else(write, ending, monkeypatch, tmp_path):
    def interrupted(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    path = tmp_path / f"out{ending}"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [f"out{ending}"]


def test_a_new_file_has_the_mode_of_the_umask_and_an_old_one_keeps_its_own(write, ending, umask, tmp_path):
    path = tmp_path / "new" / f"out{ending}"
    assert write(path) == path
    assert mode(path) == 0o666 & ~umask
    path.chmod(0o604)
    write(path)
    assert mode(path) == 0o604
    assert os.listdir(path.parent) == [f"out{ending}"]


def test_a_link_stays_a_link_and_what_it_points_to_is_written(write, ending, tmp_path):
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / f"target{ending}", tmp_path / f"link{ending}"
    link.symlink_to(target)
    for _ in range(2):  # the target is not there, then there
        write(link)
        assert link.is_symlink()
        assert len(target.read_bytes()) > 0
        assert not target.is_symlink()
    assert os.listdir(tmp_path / "there") == [f"target{ending}"]


def test_what_is_no_regular_file_is_refused_and_stays(write, ending, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    listening = tmp_path / f"s{ending}"
    pipe, circle = tmp_path / f"pipe{ending}", tmp_path / f"circle{ending}"
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"s{ending}")
    circle.symlink_to(circle)
    (tmp_path / f"folder{ending}").mkdir()
    (tmp_path / "file").write_bytes(b"old")
    for path, why in {
        pipe: "not a regular file",
        listening: "not a regular file",
        circle: "leads in a circle",
        tmp_path / f"folder{ending}": "is a directory",
        tmp_path / "file" / f"out{ending}": "not a directory",
        tmp_path / ("x" * 300 + ending): "too long",
        tmp_path / f"nul\0{ending}": "null",
    }.items():
        with pytest.raises(OSError, match=rf"cannot be written \(.*{why}.*\): .*give another path"):
            write(path)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert circle.is_symlink()
    assert listening.is_socket()
    assert sorted(os.listdir(tmp_path)) == [
        f"circle{ending}",
        "file",
        f"folder{ending}",
        f"pipe{ending}",
        f"s{ending}",
    ]


def test_escape_sequences_in_a_path_do_not_reach_the_error(write, ending, tmp_path):
    folder = tmp_path / f"\x1b[31m{ending}"
    folder.mkdir()
    with pytest.raises(OSError, match=r"\\x1b\[31m") as caught:
        write(folder)
    assert "\x1b" not in str(caught.value)


KILLED = """
import itertools, os, random, signal, sys, time
import grains_lens as gl, torch
from grains_lens.baselines.gated import GatedAdd

folder, kills = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(1)  # a fork takes no threads along

def vectors(n):
    return gl.SteeringVectors.of_layers({l: torch.full((100_000,), float(n)) for l in (1, 2)}, method=str(n))

def gate(n):
    return GatedAdd(*(torch.full(shape, float(n)) for shape in ((4, 20_000), (20_000, 4), (20_000,))), {"n": n})

kinds = {
    "vectors": (
        lambda n, path: vectors(n).save(path),
        lambda path: (v := gl.SteeringVectors.load(path)) and (v.directions, v.provenance.method),
    ),
    "gguf": (
        lambda n, path: vectors(n).to_gguf(path, model_hint=str(n)),
        lambda path: (v := gl.SteeringVectors.from_gguf(path))
        and (v.directions, v.provenance.settings["model_hint"]),
    ),
    "gate": (
        lambda n, path: gate(n).save(path),
        lambda path: (g := GatedAdd.load(path)) and (g.down, g.settings["n"]),
    ),
}
draws, parent = random.Random(0), os.getpid()
for name, (write, read) in kinds.items():
    path = os.path.join(folder, name + (".gguf" if name == "gguf" else ".safetensors"))
    write(1, path)
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            for n in itertools.count(2):
                if os.getppid() != parent:  # nobody is left to kill it
                    os._exit(0)
                write(n, path)
        time.sleep(draws.uniform(0.005, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        numbers, said = read(path)
        assert (numbers == float(said)).all(), (name, said)
print("whole", kills * len(kinds))
"""


def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path):
    words = [sys.executable, "-c", KILLED, str(tmp_path), str(KILLS)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout.split() == ["whole", str(3 * KILLS)], done.stderr
