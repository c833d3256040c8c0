"""The head that showings have in common is read once, and answers stay those of the plain model."""

import itertools

import pytest
import torch
from peft import LoraConfig, get_peft_model
from small_judge import SMALL_PROMPT, pair
from small_qwen3 import write_qwen3

from reward_model import Judge
from reward_model.encoding import Showing, ShowingEncoder
from reward_model.judging.sharing import SharedPrefill, SharedVision, shared_prefixes

NAMES = ("red", "green", "blue", "three_frames")


def showing(path: str, head: int, length: int, begin: int = 0) -> Showing:
    return Showing(list(range(begin, begin + length)), [], [path, "other"], head)


@pytest.mark.parametrize(
    ("showings", "owners"),
    [
        ([showing("a", 9, 20), showing("b", 9, 20), showing("a", 9, 22)], [0, 1, 0]),
        ([showing("a", 9, 20), showing("a", 9, 20, begin=1)], None),  # other words before the video
        ([showing("a", 9, 20), showing("b", 9, 20)], None),
        ([showing("a", 90, 100), showing("a", 90, 100), showing("b", 10, 100)], None),  # padding would eat it up
    ],
)
def test_heads_are_shared_where_that_saves_reading(showings, owners):
    assert shared_prefixes(showings, slack=64) == owners


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory):
    path = tmp_path_factory.mktemp("qwen3") / "judge"
    write_qwen3(path)
    return path


@pytest.mark.parametrize("family", ["qwen2_5", "qwen3", "adapter"])
@torch.no_grad()
def test_answers_are_those_of_the_plain_model_and_heads_are_read_once(small, qwen3, family):
    judge = Judge.from_pretrained(qwen3 if family == "qwen3" else small.path, prompt=SMALL_PROMPT, device="cpu")
    if family == "adapter":
        torch.manual_seed(0)
        judge.model = get_peft_model(judge.model, LoraConfig(target_modules=["q_proj"], init_lora_weights=False)).eval()
    pairs = [pair(small.videos, *names) for names in itertools.combinations(NAMES, 2)]
    lengths = []
    whole = judge.model.get_base_model() if family == "adapter" else judge.model
    hook = whole.model.language_model.register_forward_hook(
        lambda module, args, kwargs, output: lengths.append(kwargs["inputs_embeds"].shape[:2]), with_kwargs=True
    )
    comparisons = list(judge.compare(pairs))
    hook.remove()
    assert lengths[0][0] == len(NAMES) and lengths[1][0] == 2 * len(pairs)
    plain, p = ShowingEncoder.for_view(judge.processor, SMALL_PROMPT.view), []
    for question, comparison in zip(pairs, comparisons, strict=True):
        videos = (question.first.path, question.second.path)
        for order, verdict in ((videos, comparison.forward), (videos[::-1], comparison.backward)):
            inputs = plain.collate([plain.showing(SMALL_PROMPT.messages(question.prompt.text, *order))], pixels=True)
            output = judge.model.generate(**inputs, do_sample=False, max_new_tokens=SMALL_PROMPT.max_new_tokens)
            text = judge.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            assert verdict.text == text
            p.append(verdict.p)
    if family == "qwen2_5":
        assert len(set(p)) > len(p) / 2, "what is seen must matter, else this tests little"


@pytest.mark.parametrize("used", [False, True])
@torch.no_grad()
def test_a_rewritten_forward_can_be_undone(small, used):
    """Undone, the model's outputs are the plain model's to the bit."""
    judge = Judge.from_pretrained(small.path, prompt=SMALL_PROMPT, device="cpu")
    model, encoder = judge.model, judge.encoder
    messages = [SMALL_PROMPT.messages("x", small.videos[a].path, small.videos[b].path) for a, b in (NAMES[:2],) * 3]
    shown = [encoder.showing(each) for each in messages]
    inputs = encoder.collate(shown, pixels=True)

    def outputs() -> list[torch.Tensor]:
        generated = model.generate(
            **inputs, do_sample=False, max_new_tokens=3, output_logits=True, return_dict_in_generate=True
        )
        return [model(**inputs).logits, *generated.logits]

    plain, forwards = outputs(), [module.forward for module in model.modules()]
    model.model.visual.requires_grad_(False)
    vision, prefill = SharedVision(model.model.visual), SharedPrefill(model.model.language_model)
    if used:
        prefill.expect(shown)
        vision.expect([video for each in shown for video in each.videos])
        outputs()
        assert prefill.read == 1 and vision.encoded == 2
    for rewriting in (vision, prefill):
        rewriting.undo()
    assert [module.forward for module in model.modules()] == forwards
    assert all(torch.equal(one, other) for one, other in zip(plain, outputs(), strict=True))
