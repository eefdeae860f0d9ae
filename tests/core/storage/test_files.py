"""What is written over: links, pipes and devices stay what they are, permissions are the user's."""

import contextlib
import os
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest

from tfxc.core.errors import UserError
from tfxc.core.storage.files import atomic_file, atomic_files
from tfxc.core.storage.ownership import atomic_folder
from tfxc.data.store.row_writer import RowWriter


@contextlib.contextmanager
def umask(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def write_a_file(path):
    with atomic_file(path) as stream:
        stream.write("new")


def write_rows(path):
    with RowWriter(path, dtype="float32", computation=None) as writer:
        writer.write(0, [[1.0]])


WRITERS = pytest.mark.parametrize("write", [write_a_file, write_rows])


@pytest.fixture
def device(tmp_path):
    """A device of its own that takes everything, as /dev/null does."""
    path = tmp_path / "null"
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        path.write_text("anything")
    except PermissionError:
        pytest.skip("only root makes devices, and not everywhere")
    return path


def test_a_device_is_written_into(device):
    write_a_file(device)
    assert stat.S_ISCHR(device.stat().st_mode)
    assert os.listdir(device.parent) == ["null"]


def test_a_named_pipe_is_written_into(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as reader:
        write_a_file(path)
        assert reader.communicate(timeout=60)[0] == b"new"
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_standard_output_by_its_path_is_appended_to(tmp_path):
    """A shell's ``>> log`` keeps what the log had."""
    path = tmp_path / "stdout"  # as /dev/stdout
    path.symlink_to("/proc/self/fd/1")
    code = (
        "import sys\n"
        "from tfxc.core.storage.files import atomic_file\n"
        "with atomic_file(sys.argv[1]) as stream: stream.write('new')\n"
        "print(' more')"
    )
    command = [sys.executable, "-c", code, path]
    log = tmp_path / "log"
    log.write_text("old ")
    with log.open("a") as stream:
        subprocess.run(command, stdout=stream, check=True)
    assert log.read_text() == "old new more\n"
    assert subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout == b"new more\n"
    assert path.is_symlink()


@WRITERS
@pytest.mark.parametrize("before", [True, False])
def test_a_link_stays_and_its_target_is_replaced(tmp_path, write, before):
    target, link = tmp_path / "disk" / "target", tmp_path / "link"
    target.parent.mkdir()
    if before:
        target.write_text("old")
    link.symlink_to(target)
    write(link)
    assert link.is_symlink() and not target.is_symlink()
    assert target.read_bytes() not in (b"", b"old")
    assert os.listdir(target.parent) == ["target"]
    assert sorted(os.listdir(tmp_path)) == ["disk", "link"]


def test_rows_are_not_written_into_a_pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(UserError, match="there is a named pipe where a file"):
        write_rows(path)
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


@WRITERS
@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_new_files_have_the_permissions_of_the_umask(tmp_path, write, mask, expected):
    with umask(mask):
        write(tmp_path / "a")
    assert mode_of(tmp_path / "a") == expected


@WRITERS
def test_a_replaced_file_keeps_its_permissions(tmp_path, write):
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(0o640)
    write(path)
    assert mode_of(path) == 0o640


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o755), (0o077, 0o700)])
def test_folders_have_the_permissions_of_the_umask(tmp_path, mask, expected):
    with umask(mask), atomic_folder(tmp_path / "a", "folder") as scratch:
        (scratch / "b").write_text("")
    assert mode_of(tmp_path / "a") == expected


def test_a_link_to_a_folder_stays(tmp_path):
    target, link = tmp_path / "disk" / "target", tmp_path / "link"
    target.mkdir(parents=True)
    link.symlink_to(target)
    for text in ("one", "two"):
        with atomic_folder(link, "folder") as scratch:
            (scratch / "a").write_text(text)
        assert link.is_symlink() and (target / "a").read_text() == text
    assert os.listdir(target.parent) == ["target"]


def test_a_pipe_is_not_replaced_by_a_folder(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with (
        pytest.raises(UserError, match="pipe: there is a named pipe"),
        atomic_folder(path, "folder"),
    ):
        pass
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_files_of_a_folder_that_are_links_or_pipes_stay_so(tmp_path):
    folder, target = tmp_path / "folder", tmp_path / "disk" / "target"
    folder.mkdir()
    target.parent.mkdir()
    (folder / "link").symlink_to(target)
    os.mkfifo(folder / "pipe")
    received = []
    reader = threading.Thread(target=lambda: received.append((folder / "pipe").read_text()))
    reader.start()
    with atomic_files(folder) as scratch:
        for name in ("file", "link", "pipe"):
            (scratch / name).write_text(name)
    reader.join(60)
    assert received == ["pipe"] and target.read_text() == "link"
    assert (folder / "link").is_symlink()
    assert sorted(os.listdir(folder)) == ["file", "link", "pipe"]
    assert sorted(os.listdir(tmp_path)) == ["disk", "folder"]


def test_only_the_folder_itself_has_to_be_writable(tmp_path):
    """As a folder that a container is given; what is above it may be another file system."""
    folder = tmp_path / "parent" / "folder"
    folder.mkdir(parents=True)
    made = []
    with atomic_files(folder) as scratch:
        (scratch / "file").write_text("")
        made = os.listdir(tmp_path / "parent")
    assert made == ["folder"] and os.listdir(folder) == ["file"]


def test_a_link_in_a_circle_is_refused(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(link)
    for write in (write_a_file, write_rows):
        with pytest.raises((UserError, OSError), match="levels of symbolic links"):
            write(link)
    assert link.is_symlink()


def test_rows_by_a_link_are_whole(tmp_path):
    target, link = tmp_path / "disk" / "target.npy", tmp_path / "link"
    target.parent.mkdir()
    link.symlink_to(target)
    write_rows(link)
    assert np.load(target).tolist() == [[1.0]]
