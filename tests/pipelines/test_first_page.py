"""The moving picture of the documentation's first page is made from a finished run by one command."""

import runpy
import sys
from io import BytesIO

from PIL import Image
from source_tree import ROOT

SCRIPT = ROOT / "docs" / "site" / "first_page.py"


def test_base_and_aligned_side_by_side(finished, tmp_path, monkeypatch, capsys):
    output = tmp_path / "page.gif"
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(finished.root), str(output)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    picture = Image.open(BytesIO(output.read_bytes()))
    assert picture.format == "GIF" and picture.n_frames > 1 and picture.info["loop"] == 0
    assert "G_0 above G_" in capsys.readouterr().out


def test_the_one_that_is_shown_is_small():
    picture = ROOT / "docs" / "images" / "base_and_aligned.gif"
    assert picture.stat().st_size <= runpy.run_path(str(SCRIPT))["LARGEST"]
    assert f"images/{picture.name}" in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
