"""FineVD as VQAThinker measures reasoning judges: the judge describes a video's quality in its own words, and another
model reads from the description whether it mentions a distortion (Cao et al. 2025, supplement, "Visual Quality
Understanding"; GPT-4o there).
"""

from collections.abc import Sequence
from pathlib import Path

from reward_model.datasets import QuestionItem
from reward_model.judging.base import VideoJudge
from reward_model.measuring.asking import asked
from reward_model.questions import OptionQuestion, View, chat, plain

MEANT = {
    "color": "unnatural, washed out or badly exposed colours",
    "noise": "noise or grain",
    "artifact": "compression artifacts, such as blocks, banding or pixelation",
    "blur": "blur, or a lack of sharpness or focus",
    "temporal": "temporal distortions, such as shake, stutter, flicker or motion that is not smooth",
}
"""FineVD's distortions in words. The authors' wording is not published."""
SYSTEM = "You read what somebody wrote about the quality of a video. Answer inside <answer></answer>."
QUESTION = (
    "The description:\n{text}\n\nDoes it say that the video has {distortion}? What it does not mention, or calls good, "
    "is a no. Give only yes or no in <answer></answer>."
)
_VIEW = View(sampling=1, max_pixels=None, max_new_tokens=64)


def mention_question(text: str, distortion: str) -> OptionQuestion:
    """Whether the description ``text`` mentions one of FineVD's distortions, to be asked of a model that reads."""
    words = QUESTION.replace("{distortion}", MEANT[distortion]).replace("{text}", plain(text))
    return OptionQuestion(messages=chat(SYSTEM, [{"type": "text", "text": words}]), view=_VIEW, options=("yes", "no"))


def mentions(
    items: Sequence[QuestionItem], judge: VideoJudge, checker: VideoJudge, output: Path, size: int
) -> list[str | None]:
    """What ``checker`` says of each item, yes or no in its own words: does the judge's description of the video mention
    the distortion? None where the video cannot be read.

    A video is described once, however many distortions it is asked about; of a judge that thinks, the thought is read
    too, as the paper does. Both are kept below ``output``, in parts of ``size``, and the same call goes on.
    """
    videos = list(dict.fromkeys(item.paths[0] for item in items))
    prompt = judge.prompts.of("describe")
    texts = asked(videos, lambda path: prompt.describe("", path), judge, output / "descriptions", size, "descriptions")
    told = {path: text for path, text in zip(videos, texts, strict=True) if text is not None}
    readable = [item for item in items if item.paths[0] in told]
    found = asked(
        readable, lambda item: mention_question(told[item.paths[0]], item.kind), checker, output / "answers", size,
        "what the descriptions mention",
    )  # fmt: skip
    checked = {(item.paths[0], item.kind): said for item, said in zip(readable, found, strict=True)}
    return [checked.get((item.paths[0], item.kind)) for item in items]
