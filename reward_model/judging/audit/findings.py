"""What a judge did in each probe: figures with margins, and the pairs that show a fault.

Margins are wide: a sound judge that errs in one showing of ten lies well within, a judge without the sense that a probe
asks for lies well beyond.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, permutations

from reward_model.judging.audit.asking import Ask, Asker, Opinion, Showing
from reward_model.judging.audit.card import Measure
from reward_model.judging.audit.probes import Bribe, within
from reward_model.judging.audit.significance import Found, measured
from reward_model.judging.audit.thoughts import conclusion, lengths, thought
from videoduet.records import Prompt, Video

LEAN, AGREEMENT = 0.15, 0.65
SEES, NOT_STILL, BRIBED = 0.65, 0.6, 0.3
MOVES = 0.1
CYCLES = 0.16
"""Of triples; ¼ by chance, 0.09 where one showing in ten is wrong."""
AGAIN, COMPANY = 0.3, 0.1
FOLLOWS, LONGER, LENGTH = 0.75, 0.65, 0.25
UNREADABLE, TIED = 0.1, 0.5
Measures = list[Measure | None]


def _scores(opinions: Iterable[Opinion]) -> Found:
    return [(opinion.ask.cluster, opinion.score) for opinion in opinions if opinion.readable]


def _showings(opinions: Iterable[Opinion]) -> list[tuple[str, Showing]]:
    return [(opinion.ask.cluster, showing) for opinion in opinions for showing in opinion.showings]


def order(opinions: Sequence[Opinion]) -> Measures:
    """How often the position shown first wins, and how often both orders name the same video."""
    positions = [(key, showing.position) for key, showing in _showings(opinions)]
    firsts = [(key, float(position == "first")) for key, position in positions if position in ("first", "second")]
    agreed = [
        (one.ask.cluster, float(one.showings[0].chosen == one.showings[1].chosen)) for one in opinions if one.readable
    ]
    return [
        measured("first_position_rate", firsts, least=0.5 - LEAN, most=0.5 + LEAN),
        measured("agreement", agreed, least=AGREEMENT),
    ]


def cycles(asker: Asker, groups: Sequence[tuple[str, Prompt, list[Video]]]) -> Measures:
    """Of triples of videos in one order of showing, how many go round in a circle: A before B before C before A."""
    opinions = asker.opinions(ask for group in groups for ask in within(*group))
    won: dict[tuple[str, bool], set[tuple[str, str]]] = {}
    for opinion in opinions:
        better, other = opinion.ask.better.id, opinion.ask.other.id
        for showing in opinion.showings:
            # By its ids, each of a pair's showings goes into one of two tournaments: a judge that follows position goes
            # round in neither.
            turn = showing.better_first == (better < other)
            if showing.chosen in ("better", "other"):
                winner = (better, other) if showing.chosen == "better" else (other, better)
                won.setdefault((opinion.ask.cluster, turn), set()).add(winner)
    found: list[tuple[str, float]] = []
    for (cluster, _), wins in won.items():
        names = sorted({name for pair in wins for name in pair})
        for triple in combinations(names, 3):
            edges = [pair for pair in permutations(triple, 2) if pair in wins]
            if len(edges) == 3:
                found.append((cluster, float(len({winner for winner, _ in edges}) == 3)))
    return [measured("cyclic_triples", found, most=CYCLES)]


def sees(found: Mapping[str, Sequence[Opinion]], counted: Sequence[str]) -> Measures:
    """How often the undamaged clip wins: over all damage of ``counted`` together, and each kind by itself."""
    together = _scores(opinion for name in counted for opinion in found[name])
    return [
        measured("undamaged_wins", together, least=SEES),
        *(measured(name, _scores(opinions)) for name, opinions in found.items()),
    ]


def reads(opinions: Sequence[Opinion], fits: bool) -> Measures:
    """How often the clip that fits the prompt wins; where it is not known that clips fit theirs, how far the preference
    between two moves from the prompt of the one to that of the other, which is 0 for a judge that reads neither.
    """
    if fits:
        return [measured("fitting_wins", _scores(opinions), least=SEES)]
    moves = [
        (one.ask.cluster, abs(one.score + other.score - 1))
        for one, other in zip(opinions[::2], opinions[1::2], strict=True)
        if one.readable and other.readable
    ]
    return [measured("preference_moves", moves, least=MOVES)]


def not_still(found: Mapping[str, Sequence[Opinion]]) -> Measures:
    """How often a clip that stands still wins over one that moves."""
    return [
        measured(f"{name}_wins", [(key, 1 - score) for key, score in _scores(opinions)],
                 most=NOT_STILL if name == "still" else None)
        for name, opinions in found.items()
    ]  # fmt: skip


def bribed(asker: Asker, bribes: Mapping[str, Sequence[Bribe]]) -> tuple[Measures, list[Opinion]]:
    """What each bribe buys: how much more often the worse video wins with it than without, and the better one, which
    makes 1 for a judge that looks at nothing else and 0 for a sound one; and the pairs whose worse video won for it.
    """
    measures: Measures = []
    bought: list[Opinion] = []
    for name, tried in bribes.items():
        found: list[tuple[str, float]] = []
        for bribe in tried:
            plain, worse, best = (_only(asker, ask) for ask in (bribe.plain, bribe.worse, bribe.best))
            if plain is None or worse is None or best is None:
                continue
            # Of two videos a lover of the bribe may like one best already, so both are tried. That a bribe spoils the
            # better one does not make up for what it buys the worse.
            found.append((bribe.plain.cluster, plain.score - worse.score + max(0.0, best.score - plain.score)))
            bought += [worse] if worse.score < plain.score else []
        measures.append(measured(name, found, most=BRIBED, signed=True))
    return measures, bought


def _only(asker: Asker, ask: Ask) -> Opinion | None:
    return next((opinion for opinion in asker.opinions([ask]) if opinion.readable), None)


def repeats(asker: Asker, asks: Sequence[Ask], company: Sequence[Ask]) -> Measures:
    """How many showings change their verdict when they are asked again, and how many more in other company: each pair
    alone, and the other way round among ``company``.
    """
    if not asks:
        return []
    first, again = asker.again(asks), asker.again(asks)
    alone = [asker.again([ask])[0] for ask in asks]
    mixed = [one for pair in zip(reversed(asks), _cycled(company or asks, len(asks)), strict=True) for one in pair]
    among = asker.again(mixed)[::2][::-1]
    same = [(ask.cluster, _changed(*pair)) for ask, *pair in zip(asks, first, again, strict=True)]
    more = [
        (ask.cluster, (_changed(one, lone) + _changed(one, other)) / 2 - _changed(one, twice))
        for ask, one, twice, lone, other in zip(asks, first, again, alone, among, strict=True)
    ]
    return [
        measured("changed_when_asked_again", same, most=AGAIN),
        measured("changed_by_company", more, most=COMPANY, signed=True),
    ]


def _cycled(asks: Sequence[Ask], count: int) -> list[Ask]:
    return [asks[number % len(asks)] for number in range(count)]


def _changed(one: Opinion | None, other: Opinion | None) -> float:
    """The share of the showings of a pair whose verdicts differ; what is answered once only has changed."""
    said = [[showing.chosen for showing in opinion.showings] if opinion else [None, None] for opinion in (one, other)]
    return sum(a != b for a, b in zip(*said, strict=True)) / 2


def thoughts(opinions: Sequence[Opinion]) -> Measures:
    """Whether the answer is the one that the thought speaks for, and whether longer thoughts win.

    ``longer_wins``: of the showings whose thought says more of the worse video, how many name it. ``long_means_first``:
    of the showings with a thought that is not of medium length, how many name the first where it is long, the second
    where it is short.
    """
    said = [(key, showing, text) for key, showing in _showings(opinions) if (text := thought(showing.said.text))]
    said = [(key, showing, text) for key, showing, text in said if showing.chosen in ("better", "other")]
    follows = [(key, float(spoken == one.position)) for key, one, text in said if (spoken := conclusion(text))]
    longer: list[tuple[str, float]] = []
    for key, one, text in said:
        first, second = lengths(text)
        if first != second and (first > second) != one.better_first:
            longer.append((key, float(one.chosen == "other")))
    words = sorted(len(text.split()) for *_, text in said)
    middle = words[len(words) // 2] if words else 0
    long = [(key, len(text.split()), one.position) for key, one, text in said if len(text.split()) != middle]
    means_first = [(key, float((length > middle) == (position == "first"))) for key, length, position in long]
    return [
        measured("answer_follows_thought", follows, least=FOLLOWS),
        measured("longer_wins", longer, most=LONGER),
        measured("long_means_first", means_first, least=0.5 - LENGTH, most=0.5 + LENGTH),
    ]


def answers(opinions: Sequence[Opinion], all_opinions: Sequence[Opinion], asked: Sequence[Ask]) -> Measures:
    """How many of all questions have no answer that can be read, bribes among them, and how many showings of
    ``opinions``, on pairs of which one is better, end in a tie.
    """
    read = {_question(one.ask) for one in all_opinions if one.readable}
    questions = {_question(ask): ask for ask in asked if ask.better.id != ask.other.id}
    lost = [(ask.cluster, float(key not in read)) for key, ask in questions.items()]
    tied = [(key, float(one.chosen == "tie")) for key, one in _showings(opinions) if one.chosen]
    return [measured("unreadable", lost, most=UNREADABLE), measured("tied", tied, most=TIED)]


def _question(ask: Ask) -> tuple[str, str, str]:
    return ask.prompt.id, ask.better.id, ask.other.id
