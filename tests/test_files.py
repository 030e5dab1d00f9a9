"""A file is whole or not there; a folder has one writer; a full disk is noticed before and after."""

import errno
import multiprocessing
import os
import stat
import subprocess
import sys
from collections import namedtuple
from contextlib import nullcontext
from pathlib import Path

import pytest

from saerec import files
from saerec.files import (
    WRITER,
    BusyFolderError,
    NoSpaceError,
    check_free,
    check_space,
    one_writer,
    save_atomically,
    sha256_of,
)


def test_a_failed_write_leaves_what_was_there(tmp_path):
    def fail(path):
        path.write_text("ha")
        raise OSError("disk full")

    save_atomically(tmp_path / "a", lambda path: path.write_text("whole"))
    with pytest.raises(OSError, match="disk full"):
        save_atomically(tmp_path / "a", fail)
    with pytest.raises(OSError, match="disk full"):
        save_atomically(tmp_path / "b", fail)
    assert (tmp_path / "a").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_gets_its_name_is_on_the_disk(tmp_path, monkeypatch):
    order = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda file: order.append("fsync") or sync(file))
    monkeypatch.setattr(files.os, "replace", lambda *paths: order.append("replace") or replace(*paths))
    save_atomically(tmp_path / "a", lambda path: path.write_text("whole"))
    assert order[:2] == ["fsync", "replace"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are of another kind")
def test_it_has_the_permissions_of_a_new_file(tmp_path):
    (tmp_path / "usual").touch()
    save_atomically(tmp_path / "a", lambda path: path.write_text("x") and path.chmod(0o600))
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_folder_has_the_checksum_of_its_files(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "folder" / name).write_text(name)
    before = sha256_of(tmp_path / "folder")
    (tmp_path / "folder" / ".lock").touch()
    assert sha256_of(tmp_path / "folder") == before != sha256_of(tmp_path / "folder" / "a")
    (tmp_path / "folder" / "b").rename(tmp_path / "folder" / "c")
    assert sha256_of(tmp_path / "folder") != before


def hold(folder, held):
    with one_writer(folder):
        held.set()
        held.wait(1)  # it is set: wait is a moment
        multiprocessing.Event().wait()


def test_a_second_writer_is_told_of_the_first_and_a_dead_one_holds_nothing(tmp_path):
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    process = context.Process(target=hold, args=(tmp_path, held))
    process.start()
    assert held.wait(60)
    message = f"process {process.pid} is writing to {tmp_path}: wait for it"
    with pytest.raises(BusyFolderError, match=message), one_writer(tmp_path):
        pass
    process.kill()
    process.join()
    with one_writer(tmp_path):
        assert (tmp_path / ".lock.pid").read_text() == str(os.getpid())
    assert not (tmp_path / ".lock.pid").exists()


def test_an_error_lets_go_of_the_folder(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyError), one_writer(tmp_path / "new"):
            raise KeyError


def test_too_little_room_is_said_with_advice(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: usage(0, 0, 2_000_000_000))
    check_space(tmp_path, 2_000_000_000, "go elsewhere")
    with pytest.raises(NoSpaceError, match=r"needs about 2 GB more, and its disk has 2 GB free: go elsewhere"):
        check_space(tmp_path, 2_000_000_001, "go elsewhere")


def test_two_who_write_a_file_at_once_do_not_meet(tmp_path):
    def save(part):
        part.write_text("mine")
        save_atomically(tmp_path / "a", lambda other: other.write_text("the other's"))

    save_atomically(tmp_path / "a", save)
    assert (tmp_path / "a").read_text() == "mine" and [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_file_that_is_finished_while_leftovers_are_looked_for_is_no_failure(tmp_path, monkeypatch):
    part = tmp_path / "a.0123abcd.part"
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter([part]))  # it was there a moment ago
    save_atomically(tmp_path / "a", lambda new: new.write_text("whole"))
    assert (tmp_path / "a").read_text() == "whole"


def test_what_others_put_into_every_folder_is_not_counted(tmp_path):
    (tmp_path / "a").touch()
    before = sha256_of(tmp_path)
    (tmp_path / ".DS_Store").touch()
    (tmp_path / ".copies").mkdir()
    (tmp_path / ".copies" / "a").touch()
    assert sha256_of(tmp_path) == before
    (tmp_path / "b").touch()
    assert sha256_of(tmp_path) != before


def test_what_a_killed_one_left_goes_and_nothing_else(tmp_path):
    names = ["a.0123abcd.part", "b.0123abcd.part", "film.part", "c"]
    for name in names:
        (tmp_path / name).touch()
    save_atomically(tmp_path / "a", lambda part: part.touch())  # somebody may still write it
    assert (tmp_path / names[0]).exists()
    for name in names:
        os.utime(tmp_path / name, (0, 0))
    save_atomically(tmp_path / "a", lambda part: part.touch())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b.0123abcd.part", "c", "film.part"]
    (tmp_path / names[1]).touch()
    before = sha256_of(tmp_path)
    with one_writer(tmp_path):  # somebody without the lock may still write it
        assert (tmp_path / names[1]).exists()
    with one_writer(tmp_path, alone=True):
        pass
    assert not (tmp_path / names[1]).exists() and (tmp_path / "film.part").exists() and sha256_of(tmp_path) == before


@pytest.mark.skipif(os.name != "posix", reason="a folder cannot be opened")
@pytest.mark.parametrize(("number", "told"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)])
def test_a_mount_that_cannot_sync_folders_is_no_failure(tmp_path, monkeypatch, number, told):
    sync = os.fsync

    def fsync(file):
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(number, os.strerror(number))
        sync(file)

    monkeypatch.setattr(files.os, "fsync", fsync)
    with pytest.raises(OSError, match=os.strerror(number)) if told else nullcontext():
        save_atomically(tmp_path / "a", lambda part: part.write_text("whole"))
    assert (tmp_path / "a").read_text() == "whole"


def test_who_holds_two_folders_may_go_on_in_the_first(tmp_path, monkeypatch):
    """As a notebook's kernel, which holds the folder of its checkpoints for a while."""
    monkeypatch.setenv(WRITER, "7")
    with one_writer(tmp_path / "checkpoints"):
        assert os.environ[WRITER] == str(os.getpid())
    assert os.environ[WRITER] == "7"
    monkeypatch.delenv(WRITER)
    with pytest.raises(KeyError), one_writer(tmp_path / "checkpoints"):
        raise KeyError
    assert WRITER not in os.environ


def test_whom_the_holder_started_may_work_in_a_folder_and_nobody_else(tmp_path):
    check_free(tmp_path)
    assert not list(tmp_path.iterdir())
    check = f"import pathlib; from saerec.files import check_free; check_free(pathlib.Path({str(tmp_path)!r}))"
    with one_writer(tmp_path):
        check_free(tmp_path)
        assert subprocess.run([sys.executable, "-c", check]).returncode == 0
        others = {name: value for name, value in os.environ.items() if name != WRITER}
        refused = subprocess.run([sys.executable, "-c", check], env=others, capture_output=True, text=True)
        assert f"BusyFolderError: process {os.getpid()} is writing to {tmp_path}" in refused.stderr
    assert subprocess.run([sys.executable, "-c", check], env=others).returncode == 0
