"""Files are written whole, where and as the user has them; what cannot be written is said in one sentence."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import numpy as np
import pytest

from ffverify.errors import UsageError
from ffverify.files import plain, refuse_unwritable, write_json, write_whole

posix = pytest.mark.skipif(os.name != "posix", reason="links, modes, pipes and limits of POSIX")
not_root = pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root may do all")


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_json_is_json(tmp_path):
    data = {
        "worst": float("inf"), "none": float("nan"), 3: (1, None, True), "text": "ü",
        "array": np.array([1.5, -np.inf]), "count": np.int64(3), "path": Path("a"),
    }  # fmt: skip
    write_json(tmp_path / "a.json", data)
    strictly = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert strictly == {
        "worst": "inf", "none": "nan", "3": [1, None, True], "text": "ü", "array": [1.5, "-inf"],
        "count": 3, "path": "a",
    }  # fmt: skip
    assert plain(0.1) == 0.1


def test_a_part_file_of_the_users_stays(tmp_path):
    (tmp_path / "a.json.part").write_text("mine")
    write_whole(tmp_path / "a.json", b"new")
    assert names(tmp_path) == ["a.json", "a.json.part"]
    assert (tmp_path / "a.json.part").read_text() == "mine"


@posix
def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    for content in (b"first", b"second"):  # to a file that is not there yet, and to one that is
        link = tmp_path / "link"
        if not link.is_symlink():
            link.symlink_to(tmp_path / "there/file")
        refuse_unwritable(link)
        write_whole(link, content)
        assert link.is_symlink()
        assert (tmp_path / "there/file").read_bytes() == content


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_modes_are_kept_and_new_files_follow_the_mask(tmp_path, mode):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_whole(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    write_whole(tmp_path / "b", b"new")
    (tmp_path / "c").write_bytes(b"as the system does it")
    assert (tmp_path / "b").stat().st_mode == (tmp_path / "c").stat().st_mode


@posix
def test_a_pipe_is_written_to(tmp_path):
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    refuse_unwritable(pipe)  # which does not wait for a reader
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write_whole(pipe, b"through")
    reader.join(20)
    assert got == [b"through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    write_whole(Path(os.devnull), b"away")
    assert names(tmp_path) == ["pipe"]


@posix
def test_a_full_disk_leaves_the_old_file(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "a"
    path.write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(UsageError, match=r"cannot write '.*a': File too large"):
            write_whole(path, bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]
    if Path("/dev/full").exists():
        with pytest.raises(UsageError, match="No space left"):
            write_whole(Path("/dev/full"), b"new")


@posix
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere/a", "there is no folder .*nowhere"),
        ("folder", "it is a folder"),
        ("file/a", "there is no folder"),
        ("a\0b", "null"),
        ("n" * 300, "name too long"),
        ("circle", "circle|loop|levels of symbolic links|there is no folder"),
    ],
)
def test_what_cannot_be_written_is_said_before_the_run(tmp_path, name, reason):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    before = names(tmp_path)
    for write in (refuse_unwritable, lambda path: write_whole(path, b"new")):
        with pytest.raises(UsageError, match=f"(?i)cannot write .*: .*({reason})"):
            write(tmp_path / name)
    assert names(tmp_path) == before


@posix
@not_root
def test_files_and_folders_that_may_not_be_written_are_refused(tmp_path):
    (tmp_path / "file").touch(mode=0o400)
    with pytest.raises(UsageError, match="it may not be written to"):
        refuse_unwritable(tmp_path / "file")
    (tmp_path / "folder").mkdir(mode=0o500)
    with pytest.raises(UsageError, match="Permission denied"):
        refuse_unwritable(tmp_path / "folder/a")


def test_asking_leaves_nothing_behind(tmp_path):
    refuse_unwritable(tmp_path / "a")
    assert names(tmp_path) == []
