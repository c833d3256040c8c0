"""``python -m pipelines.audit_judge``: a table, a page, one line, and an exit code."""

import pytest

from pipelines.audit_judge import main
from shapes_world.audited import audit_clips
from videoduet.video import write_video

FLAWED = "benchmarks.flawed_judges."


def ends(*arguments: str) -> int:
    """The exit code of the command."""
    try:
        main(list(map(str, arguments)))
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_a_card_a_page_and_a_line(tmp_path, capsys):
    asked = ["--factory", FLAWED + "AlwaysFirst", "--clips", 6, "--output", tmp_path / "out"]
    assert ends(*asked, "--require", "order,answers") == 1
    said = capsys.readouterr()
    (line,) = said.out.splitlines()
    assert "failed (order" in line and line.endswith("questions on 6 videos.")
    assert "The judge did not pass what is required of it: order (failed)" in " ".join(said.err.split())
    assert (tmp_path / "out" / "audit.html").is_file() and (tmp_path / "out" / "card.json").is_file()


def test_videos_of_ones_own(tmp_path, capsys):
    for number, (clip, prompt) in enumerate(audit_clips(2)):
        write_video(tmp_path / f"{number}.mp4", clip, 8)
        with (tmp_path / "videos.csv").open("a") as file:
            file.write(f"video,prompt\n{number}.mp4,{prompt}\n" if not number else f"{number}.mp4,{prompt}\n")
    assert ends("--factory", FLAWED + "AlwaysFirst", "--videos", tmp_path) == 0
    assert "questions on 2 videos" in capsys.readouterr().out


def test_the_plan_loads_nothing(capsys):
    assert ends("--judge", "nobody/knows", "--plan") == 0
    assert capsys.readouterr().out.startswith("The audit asks about 1472 pairs at most, 2944 showings")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--require", "ordr"], "There is no probe ordr"),
        (["--clips", "1"], "clips is 1; give 2 or more"),
        (["--arguments", "{a: 1}"], "arguments are given, but no factory"),
        (["--backend", "server"], "Backend server and a server's URL belong together"),
    ],
)
def test_wrong_usage(arguments, told, capsys):
    assert ends(*arguments) == 2
    assert told in " ".join(capsys.readouterr().err.split())
