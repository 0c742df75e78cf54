"""What is read is a file, and what never ends is refused before it is read."""

import os
import threading
from pathlib import Path

import pytest

from audit.plainfile import plain_file, real_path


def test_a_file_a_folder_and_what_is_not_there_are_let_through(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to("circle")
    for path in (tmp_path, *(tmp_path / name for name in ("a", "link", "broken", "circle", "none", "n\0ul"))):
        assert plain_file(path) == path


def test_a_pipe_and_a_device_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", tmp_path / "endless", Path("/dev/zero")):
        with pytest.raises(OSError, match="it is a pipe or a device, not a file"):
            plain_file(path)


def test_the_pipe_of_a_shell_is_read():
    read, write = os.pipe()
    threading.Thread(target=lambda: (os.write(write, b"said"), os.close(write))).start()
    assert plain_file(Path(f"/dev/fd/{read}")).read_bytes() == b"said"
    os.close(read)


def test_links_in_a_circle_have_a_path(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "c").symlink_to("d")
    assert real_path(tmp_path / "a").is_absolute()
    assert real_path(tmp_path / "c") == tmp_path.resolve() / "d"
