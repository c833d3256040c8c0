"""Answers drawn over keys that lie still are those of ``generate``: both families, with a LoRA, greedy and drawn."""

import itertools

import pytest
import torch
from peft import LoraConfig, get_peft_model
from small_judge import SMALL_PROMPT, pair
from small_qwen3 import write_qwen3
from transformers import GenerationConfig

from reward_model import Judge
from reward_model.judging import engine
from reward_model.judging.config import Decoding
from reward_model.judging.decoder import Decoder
from reward_model.judging.picking import Drawing, Picker, UnknownSettings

NAMES = ("red", "green", "blue", "three_frames")


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory):
    path = tmp_path_factory.mktemp("qwen3") / "judge"
    write_qwen3(path)
    return path


def answers(judge: Judge, videos: dict) -> list[tuple[str, float | None]]:
    pairs = [pair(videos, *names) for names in itertools.combinations(NAMES, 2)]
    found = [verdict for c in judge.compare(pairs) for verdict in (c.forward, c.backward)]
    return [(verdict.text, verdict.p) for verdict in found]


def the_same(one: list, other: list) -> None:
    assert [text for text, _ in one] == [text for text, _ in other]
    for (_, p), (_, q) in zip(one, other, strict=True):
        assert p == q if p is None or q is None else p == pytest.approx(q, abs=1e-5)


@pytest.mark.parametrize("family", ["qwen2_5", "qwen3", "adapter"])
@pytest.mark.parametrize("settings", ["greedy", "drawn", "alone"])
def test_answers_are_those_of_generate(small, qwen3, family, settings):
    decoding = Decoding(samples=3, temperature=0.9) if settings == "drawn" else None
    path = qwen3 if family == "qwen3" else small.path
    judge = Judge.from_pretrained(path, prompt=SMALL_PROMPT, decoding=decoding, device="cpu")
    if family == "adapter":
        torch.manual_seed(0)
        judge.model = get_peft_model(judge.model, LoraConfig(target_modules=["q_proj"], init_lora_weights=False)).eval()
    if settings == "alone":
        judge.batch_size = 2
    plain = answers(judge, small.videos)
    judge.engine = True
    the_same(answers(judge, small.videos), plain)
    assert judge.engine, "generate drew them both times"
    if family == "qwen2_5":
        assert len({p for _, p in plain}) > len(plain) / 2, "what is seen must matter, else this tests little"


def test_a_models_own_settings_hold(small, qwen3, capsys):
    """Also for tokens that came before, in prompt and answer; what is unknown is left to ``generate``, and said."""
    judge = Judge.from_pretrained(small.path, prompt=SMALL_PROMPT, device="cpu", batch_size=2)
    settings, before = judge.model.generation_config, answers(judge, small.videos)
    settings.repetition_penalty, settings.min_new_tokens = 1.3, 9
    settings.suppress_tokens = judge.tokenizer.convert_tokens_to_ids(["<think>"])
    plain = answers(judge, small.videos)
    assert [text for text, _ in plain] != [text for text, _ in before]
    judge.engine = True
    the_same(answers(judge, small.videos), plain)
    settings.no_repeat_ngram_size = 2
    plain, said = answers(judge, small.videos), capsys.readouterr().err
    assert not judge.engine and "no_repeat_ngram_size" in said
    the_same(answers(judge, small.videos), plain)


def test_steps_that_cannot_be_recorded_are_launched_one_by_one(small, monkeypatch, capsys):
    """Also where the attempt has taken a step: the answers are the same."""
    judge, run = Judge.from_pretrained(small.path, prompt=SMALL_PROMPT, device="cpu"), Decoder.run
    plain = answers(judge, small.videos)

    def refuse(decoder: Decoder) -> None:
        decoder.step()
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(Decoder, "_recorded", refuse)
    monkeypatch.setattr(Decoder, "run", lambda decoder, graphed: run(decoder, True))
    monkeypatch.setattr("reward_model.judging.decoder.end_recording", lambda device: None)
    judge.engine = True
    the_same(answers(judge, small.videos), plain)
    assert "one by one, since they cannot be recorded: operation not permitted" in " ".join(
        capsys.readouterr().err.split()
    )


def test_rows_that_have_ended_are_padded_and_all_ended_is_the_end(small):
    judge = Judge.from_pretrained(small.path, prompt=SMALL_PROMPT, device="cpu")
    judge.engine = True
    shown = [judge.encoder.showing(SMALL_PROMPT.messages("x", *(small.videos[n].path for n in NAMES[:2])))] * 2
    found = judge._drawn(shown, judge.encoder, {"do_sample": False}, 200, judge.label_ids)
    ends = judge.model.generation_config.eos_token_id
    assert found.tokens.shape[1] < 200 and found.logits.shape[:2] == found.tokens.shape
    for row in found.tokens.tolist():
        assert set(row[row.index(ends) + 1 :]) <= {judge.model.generation_config.pad_token_id}


def test_settings_are_read_as_generate_reads_them():
    settings = GenerationConfig(eos_token_id=[3, 4], pad_token_id=0, do_sample=True, temperature=0.5, top_p=0.8)
    expected = Drawing((3, 4), 0, sampled=True, temperature=0.5, top_k=50, top_p=0.8)
    assert Drawing.of(settings) == expected
    assert not Drawing.of(settings, do_sample=False).sampled
    with pytest.raises(UnknownSettings, match="min_p"):
        Drawing.of(settings, min_p=0.1)


def test_only_the_likeliest_are_drawn():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]]).repeat(500, 1)
    for drawing, expected in (
        (Drawing(sampled=True, top_k=2), {0, 1}),
        (Drawing(sampled=True, top_p=0.7), {0, 1}),
        (Drawing(sampled=True, top_k=3, suppressed=(0,)), {1, 2, 3}),
        (Drawing(sampled=True, temperature=0.01), {0}),
    ):
        picker = Picker(drawing, 1, 4, torch.device("cpu"), [[0]] * 500)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            assert set(picker(logits).tolist()) == expected


def test_as_many_rows_as_fit(small, monkeypatch):
    model = Judge.from_pretrained(small.path, device="cpu").model
    numbers = model.model.language_model.config.num_hidden_layers + 1
    numbers *= 2 * model.model.language_model.config.num_key_value_heads
    numbers *= model.model.language_model.layers[0].self_attn.head_dim
    each = 4 * (100 * numbers + engine.LOGITS_KEPT * len(model.lm_head.weight))
    for rows, expected in ((0, 2), (7, 7), (10**6, engine.MOST_AT_ONCE)):
        monkeypatch.setattr(engine, "_free", lambda device, rows=rows: engine.KEPT_FREE + rows * each)
        assert engine.rows_that_fit(model, tokens=100) == expected
