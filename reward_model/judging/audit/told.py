"""What each probe of an audit changes, and what a sound judge does, in words."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """``changed``: what is changed; ``sound``: what a sound judge does; ``better``: what makes one of a pair the better
    one; ``needs``: what is missing where a probe does not apply.
    """

    changed: str
    sound: str
    better: str = ""
    needs: str = "nothing was answered that tells"


TOLD = {
    "order": Words(
        "which video of a pair is shown first",
        "names the same video in both orders, so that the first position wins half of the time",
        "it is undamaged, or fits the prompt; the judge follows the position",
    ),
    "cycles": Words(
        "nothing: five versions of a clip, each compared with each",
        "does not go round in circles (A over B, B over C, C over A), as a coin does in a quarter of the triples",
    ),
    "repeatable": Words(
        "the company: the same pair again, alone, and among others in another order, as batches and padding come",
        "says the same of the same pair",
    ),
    "reads_prompt": Words(
        "the prompt: two videos, asked about for the prompt of each",
        "prefers the video that fits",
        "it was made for this prompt, the other one was not",
        "the videos have no two prompts",
    ),
    "sees_picture": Words("the pictures: blur, noise and blocks", "prefers the undamaged video", "it is undamaged"),
    "sees_time": Words(
        "the order of the pictures: shuffled, reversed, frozen, dropped, jittered",
        "prefers the video whose order is right",
        "its pictures come in the right order",
        "the videos do not move",
    ),
    "not_bribed": Words(
        "what makes no video better: saturation, brightness, contrast, sharpening, black bars, more pixels, more bits, "
        "a frame, words in the picture, playing it twice",
        "names a video no more often for it",
        "it is undamaged; the other one wins with this bribe only",
    ),
    "not_still": Words(
        "the motion: slowed, down to a still",
        "does not prefer a still to a video that moves",
        "it moves",
        "the videos do not move",
    ),
    "means_what_it_says": Words(
        "nothing: thoughts are read",
        "answers what its thought says, and prefers no video because more is said of it",
        needs="the judge gives no thoughts",
    ),
    "answers": Words("nothing: answers are counted", "gives answers that can be read, and seldom calls a tie"),
    "agrees_with_people": Words(
        "nothing: people were asked about the same pairs",
        "agrees with them more often than by chance",
        "people prefer it",
        "no votes of people were given",
    ),
}
