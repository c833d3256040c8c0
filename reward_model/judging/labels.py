"""How sure a model is of the video it names: the logits of the answer labels at the token that says it."""

from collections.abc import Sequence

from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from reward_model.parsing import parse_choice
from videoduet.errors import InputError
from videoduet.records import OrderVerdict


class LabelLogits(LogitsProcessor):
    """Keeps the logits (B, labels) of the answer labels at every step of a generation, and changes nothing."""

    def __init__(self, ids: Sequence[int]):
        self.ids, self.steps = list(ids), []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.steps.append(scores[:, self.ids].float().cpu())
        return scores


def label_ids(tokenizer: PreTrainedTokenizerBase, labels: tuple[str, str]) -> list[int]:
    """Token ids of both labels, and again of the same words with or without a space before them, where those are
    tokens too: an answer may be spelt either way.

    Raises InputError where a label is no single token, or cannot be read back.
    """
    respelt = [label.strip() if label.startswith(" ") else f" {label}" for label in labels]
    spelt = [tokenizer(list(each), add_special_tokens=False).input_ids for each in (labels, respelt)]
    ids = [tokens[0] for pair in spelt if all(len(tokens) == 1 for tokens in pair) for tokens in pair]
    if not ids or not all(label.strip() for label in labels):
        raise InputError(f"The judge's labels {labels} are no tokens; choose labels of one token each.")
    if [parse_choice(label) for label in labels] != ["first", "second"]:
        raise InputError(f"The judge's labels {labels} cannot be read back; take 1 and 2, or A and B.")
    return ids


def verdict_at_label(
    tokenizer: PreTrainedTokenizerBase, text: str, completion: Tensor, logits: Tensor, ids: Sequence[int]
) -> OrderVerdict:
    """The verdict in ``text``, with the probability of the first label at the token that says it.

    ``completion`` (T,) are the answer's tokens, ``logits`` (T, labels) those of the labels ``ids`` at each.
    """
    verdict = parse_choice(text)
    if verdict not in ("first", "second"):
        return OrderVerdict(text=text, verdict=verdict)
    spellings = [ids[start : start + 2] for start in range(0, len(ids), 2)]
    spelt = {pair[verdict == "second"]: 2 * number for number, pair in enumerate(spellings)}
    for step in reversed(range(len(completion))):
        column = spelt.get(int(completion[step]))
        if column is None:
            continue
        # The label that makes the verdict readable, not one in the thought or in what follows.
        before, after = (
            parse_choice(tokenizer.decode(completion[:end], skip_special_tokens=True)) for end in (step, step + 1)
        )
        if before is None and after == verdict:
            p = float(logits[step, column : column + 2].softmax(0)[0])
            return OrderVerdict(text=text, verdict=verdict, p=p)
    return OrderVerdict(text=text, verdict=verdict)
