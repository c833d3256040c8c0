"""The report of a run: what it says, what it survives, and what a browser shows."""

import ast
import html
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from markupsafe import escape
from PIL import Image
from report_fixtures import HOSTILE, Browser, draw, write_round, write_run, write_score

from pipelines.report import charts as report_charts
from pipelines.report import write_report
from pipelines.report.__main__ import main
from pipelines.report.shelf import Shelf
from videoduet import store
from videoduet.errors import InputError
from videoduet.records import Prompt

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "a run & <more>"
    write_run(run)
    return run


@pytest.fixture(scope="module")
def page(finished) -> str:
    path = write_report(finished)
    assert path == finished / "report.html"
    return path.read_text("utf-8")


def text_of(page: str) -> str:
    """The page's visible text, roughly."""
    body = re.sub(r"<(style|script|svg)\b.*?</\1>", " ", page, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def edit(path: Path, **changes) -> None:
    store.write_json(path, store.read_json(path) | changes)


def test_verdict_and_figures_are_said(page):
    text = text_of(page)
    assert "By the second judge, G_2 beats the base in 71 % of 48 held-out cases (58–82)" in text
    for figure in ("39", "by round: 18 + 21", "by round: 90 + 90", "accepted", "0.61", "2 of 18 pairs were near ties."):
        assert figure in text
    for title in ("Win rate over the base", "Pair yield", "Implicit accuracy", "Judge accuracy on held-out pairs"):
        assert title in text
    assert page.count("<svg") == 6
    assert "second judge: 60 at G_1, 71 at G_2" in page
    assert "not finished" not in text
    assert "Seed 7 Rounds 2 Training prompts 2 Generator shapes_world/generator" in text
    assert "8 frames of 32 × 32 pixels at 8 fps" in text and "2 min 3 s" in text
    assert "VBench is not installed." in text and "evaluate_vbench" not in text


def test_page_needs_nothing_from_outside(page):
    for address in re.findall(r'(?:src|href|poster)="([^"]*)"', page):
        assert address.startswith(("data:", "#")), address
    assert "@import" not in page and "url(http" not in page
    assert set(re.findall(r"https?://[^\"' <)]*", page)) <= {
        "http://www.w3.org/1999/xlink",
        "http://www.w3.org/2000/svg",
    }


def test_ids_are_unique_and_colours_follow_the_theme(page):
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    referred = re.findall(r'(?:xlink:href="#|url\(#|href="#|labelledby=")([^")]+)', page)
    assert set(referred) <= set(ids)
    assert "#01030" not in page and report_charts.INK not in page and "prefers-color-scheme: dark" in page


def test_hostile_text_stays_text(page):
    assert HOSTILE not in page and str(escape(HOSTILE)) in page
    assert page.count("<script") == 1 and "<img" not in re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert "The first clip flickers <img src=x onerror=alert(1)>" in text_of(page)
    assert "a run &amp; &lt;more&gt;" in page


def test_the_same_run_gives_the_same_page(finished, page):
    assert write_report(finished).read_text("utf-8") == page


def snippets(page: str) -> dict[str, str]:
    return {name: html.unescape(code) for name, code in re.findall(r'<pre id="load-(\w+)">(.*?)</pre>', page, re.S)}


def test_snippets_name_base_and_adapter(page):
    code = snippets(page)
    for part in ("generator", "judge"):
        ast.parse(code[part])
    assert 'UNet3DConditionModel.from_pretrained(BASE, subfolder="unet")' in code["generator"]
    assert 'PeftModel.from_pretrained(unet, "final/generator")' in code["generator"]
    assert 'BASE = "shapes_world/generator"' in code["generator"]
    assert 'BASE = "Qwen/Qwen2.5-VL-7B-Instruct"' in code["judge"]
    assert 'Qwen2_5_VLForConditionalGeneration.from_pretrained(BASE, revision="abc123")' in code["judge"]
    assert 'PeftModel.from_pretrained(model, "final/judge")' in code["judge"]


def test_snippet_takes_no_code_from_the_run(tmp_path):
    evil = {"base_model_name_or_path": 'x"; import os #\n', "auto_mapping": {"base_model_class": "os.system('x')"}}
    store.write_json(tmp_path / "final/generator/adapter_config.json", evil)
    tree = ast.parse(snippets(write_report(tmp_path).read_text("utf-8"))["generator"])
    assert "os" not in {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not any(isinstance(node, ast.Name) and node.id == "os" for node in ast.walk(tree))


def test_generator_snippet_loads_a_real_adapter(tmp_path, monkeypatch):
    """The code that the page prints runs as it stands on a UNet and a LoRA saved by diffusers and peft."""
    torch, diffusers, peft = (pytest.importorskip(name) for name in ("torch", "diffusers", "peft"))
    blocks = {"down_block_types": ("CrossAttnDownBlock3D",), "up_block_types": ("CrossAttnUpBlock3D",)}
    sizes = {"block_out_channels": (8,), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 4}
    unet = diffusers.UNet3DConditionModel(sample_size=8, cross_attention_dim=8, **blocks, **sizes)
    base = tmp_path / "base"
    unet.save_pretrained(base / "unet")
    tuned = peft.get_peft_model(unet, peft.LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False))
    tuned.peft_config["default"].base_model_name_or_path = str(base)
    tuned.save_pretrained(tmp_path / "run/final/generator")
    code = snippets(write_report(tmp_path / "run").read_text("utf-8"))["generator"]
    monkeypatch.chdir(tmp_path / "run")
    names: dict = {}
    exec(code, names)
    loaded, saved = names["unet"].state_dict(), tuned.state_dict()
    adapter = [name for name in saved if "lora_B" in name]
    assert adapter and all(torch.equal(loaded[name], saved[name]) for name in adapter)


def test_half_finished_run_says_what_is_missing(tmp_path):
    training = [Prompt.of("a blue square")]
    store.write_records(tmp_path / "prompts.parquet", training, Prompt)
    store.write_bytes(tmp_path / "config.yaml", b"rounds: 4\nseed: 1\n")
    draw(tmp_path, "round_00/sample", training, 2, "G_0", 0)
    text = text_of(write_report(tmp_path).read_text("utf-8"))
    assert "No verdict yet" in text
    assert "Round 0 has not finished: sample, rank, align left no summary." in text
    assert "Rounds 1 to 3 have not begun." in text
    assert "not been scored yet" in text and "No held-out videos have been drawn yet" in text
    assert "No comparisons have been written yet." in text


def test_empty_and_damaged_runs_still_give_a_page(tmp_path):
    (tmp_path / "round_00").mkdir()
    assert "No videos have been drawn yet." in text_of(write_report(tmp_path).read_text("utf-8"))
    write_run(tmp_path)
    (tmp_path / "round_00/rank/summary.json").write_text('{"pairs": ')
    (tmp_path / "score/samples_G_1.parquet").write_bytes(b"PAR1")
    (tmp_path / "config.yaml").write_text("- a\n- list\n")
    next((tmp_path / "score/videos").glob("G_2_*.mp4")).write_bytes(b"no video")
    next((tmp_path / "score/videos").glob("G_0_*.mp4")).unlink()
    (tmp_path / "quarantine.jsonl").write_text('{"path": "round_00/x.mp4", "reason": "no frames"}\n')
    text = text_of(write_report(tmp_path).read_text("utf-8"))
    for damaged in ("round_00/rank/summary.json", "score/samples_G_1.parquet", "config.yaml"):
        assert f"{damaged} could not be read" in text
    assert "cannot be decoded" in text and "is missing" in text
    assert "Left out as unreadable: round_00/x.mp4 (no frames)" in text


def test_records_of_a_newer_program_cost_their_section_alone(tmp_path, monkeypatch):
    write_round(tmp_path, 0, [Prompt.of("a")])
    monkeypatch.setattr(store, "SCHEMA_VERSION", 99)
    write_score(tmp_path, [Prompt.of("b")], ("G_0",))
    text = text_of(write_report(tmp_path).read_text("utf-8"))
    assert "score/samples_G_0.parquet could not be read" in text and "newer VideoDuet" in text


def test_a_run_of_a_newer_program_is_refused(tmp_path):
    write_run(tmp_path)
    (tmp_path / "config.yaml").write_text("schema_version: 99\nrounds: 2\n")
    with pytest.raises(InputError, match=r"Run .* was written by a newer VideoDuet"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_every_value_may_be_null(tmp_path):
    write_run(tmp_path)
    for path in [*tmp_path.glob("round_*/*/summary.json"), tmp_path / "score/summary.json"]:
        store.write_json(path, dict.fromkeys(store.read_json(path)))
    (tmp_path / "round_01/align/log.jsonl").write_text('{"step": 0, "loss": null, "implicit_accuracy": NaN}\n7\n')
    assert "No verdict yet" in text_of(write_report(tmp_path).read_text("utf-8"))


def test_warnings_come_first_and_name_the_round(tmp_path):
    write_run(tmp_path)
    position = "the judge follows position: 98 % of wins went to the video shown first."
    edit(tmp_path / "round_00/rank/summary.json", skipped=position, pairs=0, first_position_rate=0.98, abstention=0.9)
    edit(tmp_path / "round_00/align/summary.json", status="skipped", reason=position)
    edit(tmp_path / "round_01/refresh/summary.json", status="kept_previous", reason="accuracy fell from 0.81 to 0.70.")
    edit(tmp_path / "round_01/align/summary.json", notes=["Both errors rose above the reference's."])
    edit(tmp_path / "score/summary.json", notes=["2 of 3 prompts are longer than is read."])
    text = text_of(write_report(tmp_path).read_text("utf-8"))
    assert f"Warning. Round 0: align was skipped: {position}" in text
    assert "Round 1: refresh kept the previous judge: accuracy fell from 0.81 to 0.70." in text
    assert "Round 0: the judge leans to the video shown first (98 % of wins went to the first)." in text
    assert "Round 0: the judge abstained on 90 % of comparisons." in text
    assert "Warning. Round 1: Both errors rose above the reference's." in text
    assert "Warning. score: 2 of 3 prompts are longer than is read." in text
    assert text.index("Warning.") < text.index("Note.")


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({"second_judge": (0.6, 0.45, 0.75)}, "The interval includes 50 %: this may be chance."),
        ({"second_judge": (0.3, 0.2, 0.4)}, "The aligned generator is worse."),
        ({"judge": (0.9, 0.8, 0.95)}, "This judge gave the labels, so its praise proves little."),
        (
            {"frozen_judge": (0.7, None, None)},
            "By the frozen judge D_0, G_10 beats the base in 70 % of 48 held-out cases",
        ),
        ({"judge": (0.9, 0.85, 0.95), "second_judge": (0.6, 0.5, 0.7)}, "may have learnt that judge's taste"),
    ],
)
def test_verdict_weighs_the_interval_and_the_judge(tmp_path, rates, expected):
    win_rate = {
        judge: {
            "G_10": dict(zip(("rate", "low", "high"), values, strict=True)) | {"decided": 40, "total": 48},
            "G_9": {},
        }
        for judge, values in rates.items()
    }
    store.write_json(tmp_path / "score/summary.json", {"versions": ["G_0", "G_9", "G_10"], "win_rate": win_rate})
    assert expected in text_of(write_report(tmp_path).read_text("utf-8"))


def test_at_most_24_prompts_are_embedded_and_the_rest_linked(tmp_path):
    prompts = [Prompt.of(f"prompt {index}") for index in range(27)]
    write_score(tmp_path, prompts, ("G_0", "G_1"))
    page = write_report(tmp_path).read_text("utf-8")
    assert page.count("<video") == 48
    assert "3 more cases, as links" in text_of(page)
    links = re.findall(r'href="(score/[^"]+)"', page)
    assert len(links) == 6 and all((tmp_path / link).is_file() for link in links)


def test_more_seeds_of_one_prompt_are_linked(tmp_path):
    prompts = [Prompt.of("one")]
    for number in range(2):
        draw(tmp_path, "score", prompts, 3, f"G_{number}", number)
    page = write_report(tmp_path).read_text("utf-8")
    assert page.count("<video") == 2 and len(re.findall(r'href="score/', page)) == 4


def test_a_video_path_cannot_leave_the_run_directory(tmp_path):
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    shelf = Shelf(tmp_path / "run")
    for path in ("../secret.mp4", str(tmp_path / "secret.mp4"), "a/../../secret.mp4"):
        shown = shelf.show(path, "prompt", "label", "described")
        assert not shown.source and not shown.href and "out of the run directory" in shown.problem


def test_vbench_scores_are_shown(tmp_path):
    write_round(tmp_path, 0, [Prompt.of("a")])
    scores = {"available": True, "G_0": {"motion_smoothness": 0.91}, "G_1": {"motion_smoothness": 0.93, "color": 0.5}}
    store.write_json(tmp_path / "score/summary.json", {"versions": ["G_0", "G_1"], "vbench": scores})
    text = text_of(write_report(tmp_path).read_text("utf-8"))
    assert "dimension G_0 G_1 motion_smoothness 0.91 0.93 color – 0.5" in text


def test_command_line(tmp_path, capsys):
    write_score(tmp_path, [Prompt.of("a")], ("G_0",))
    main([str(tmp_path)])
    assert capsys.readouterr().out.strip() == str(tmp_path / "report.html")
    (tmp_path / "nothing").mkdir()
    for wrong, sentence in (("missing", "does not exist"), ("nothing", "holds no run")):
        with pytest.raises(SystemExit) as stop:
            main([str(tmp_path / wrong)])
        assert stop.value.code == 2
        assert sentence in (error := capsys.readouterr().err) and error.count("\n") == 1
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0 and "opens offline" in " ".join(capsys.readouterr().out.split())


def test_an_unwritable_place_is_named(tmp_path):
    write_score(tmp_path, [Prompt.of("a")], ("G_0",))
    (tmp_path / "report.html").mkdir()
    (tmp_path / "report.html/in_the_way").touch()
    with pytest.raises(InputError, match=r"report\.html"):
        write_report(tmp_path)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not CHROMIUM:
        pytest.skip("no chromium in PATH (Debian: apt-get install chromium)")
    browser = Browser(CHROMIUM, tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


# Three held-out cases of two videos, and the two videos that the judge speaks of in each of two rounds.
VIDEOS = 10


def test_in_chromium_every_video_plays(browser, finished, page):
    browser.open(finished / "report.html")
    assert browser.evaluate("document.querySelectorAll('video').length") == VIDEOS
    browser.wait(f"document.body.dataset.ready == '{VIDEOS}'")
    assert browser.evaluate("videos.every((video) => video.videoWidth == 32 && !video.error)")
    # Chromium starts a video when it comes into view.
    browser.evaluate("document.querySelector('.cases').scrollIntoView()")
    browser.wait("videos.slice(0, 6).every((video) => !video.paused && video.currentTime > 0)")
    browser.evaluate("button.click()")
    assert browser.evaluate("videos.every((video) => video.paused)")
    assert browser.evaluate("button.textContent") == "Play the videos"


def test_in_chromium_hostile_text_is_only_shown(browser, finished, page):
    browser.open(finished / "report.html")
    assert browser.evaluate("document.title") == "VideoDuet report: a run & <more>"
    assert browser.evaluate("document.querySelector('.case h3').innerText") == HOSTILE
    assert browser.evaluate("[document.scripts.length, document.images.length]") == [1, 0]


def test_in_chromium_code_that_slips_in_does_not_run(browser, finished, page, tmp_path):
    slipped = page.replace("<main>", "<main><script>document.title='owned'</script>")
    without_policy = re.sub(r"<meta http-equiv[^>]*>", "", slipped)
    for text, owned in ((slipped, False), (without_policy, True)):
        place = tmp_path / f"owned_{owned}.html"
        place.write_text(text, "utf-8")
        browser.open(place)
        assert (browser.evaluate("document.title") == "owned") is owned


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (400, False)])
def test_in_chromium_the_page_is_seen(browser, finished, page, tmp_path, width, dark):
    browser.open(finished / "report.html", width, dark)
    browser.wait(f"document.body.dataset.ready == '{VIDEOS}'")
    assert browser.evaluate("innerWidth") == width
    assert browser.evaluate("document.documentElement.scrollWidth") <= width, "something sticks out"
    browser.screenshot(tmp_path / "shot.png")
    pixels = np.asarray(Image.open(tmp_path / "shot.png").convert("RGB")).astype(int)
    assert pixels.shape[1] == width
    assert bool(pixels[0, 0].max() < 60) is dark
    assert (np.abs(pixels - pixels[0, 0]).max(axis=-1) > 40).mean() > 0.02
    # The first case's videos hold a red square.
    assert (np.abs(pixels - [210, 40, 40]).max(axis=-1) < 25).sum() > 200


def test_in_chromium_an_undecodable_video_becomes_a_picture(browser, finished, page, tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text(re.sub(r"data:video/mp4;base64,\w{60}", "data:video/mp4;base64," + "A" * 60, page), "utf-8")
    browser.open(broken)
    browser.wait(f"document.querySelectorAll('img[src^=\"data:image/webp\"]').length == {VIDEOS}")
    browser.wait("[...document.images].every((image) => image.naturalWidth == 32 && image.alt)")
    assert browser.evaluate("document.querySelectorAll('video').length") == 0
