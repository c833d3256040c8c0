"""Folders are walked through links, once, and never for ever."""

from videoduet.folders import files_below
from videoduet.workspace import Workspace


def test_links_are_entered_and_loops_are_cut(tmp_path):
    home, disk = tmp_path / "home", tmp_path / "disk"
    for name in ("home/own/x.mp4", "disk/deep/y.mp4"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (home / "a_link_to_own").symlink_to(home / "own")
    (home / "videos").symlink_to(disk)
    (disk / "deep" / "back").symlink_to(home)
    (home / "gone").symlink_to(tmp_path / "nowhere")
    assert files_below(home) == [home / "gone", home / "own" / "x.mp4", home / "videos" / "deep" / "y.mp4"]
    (tmp_path / "link").symlink_to(home)
    assert tmp_path / "link" / "own" / "x.mp4" in files_below(tmp_path / "link")
    assert files_below(tmp_path / "nowhere") == []


def test_what_lies_on_another_disk_is_hashed_and_left_alone(tmp_path):
    disk, workspace = tmp_path / "disk", Workspace(tmp_path / "run")
    disk.mkdir()
    (disk / "latents.safetensors").write_bytes(b"x")
    (disk / ".other.1_1.tmp").write_bytes(b"somebody else's")
    (workspace.root / "latents").symlink_to(disk)
    workspace.finish()
    assert '"latents/latents.safetensors"' in (workspace.root / "done.json").read_text()
    assert (disk / ".other.1_1.tmp").exists()
