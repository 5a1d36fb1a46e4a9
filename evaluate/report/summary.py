"""What an evaluation says in sentences: each is made from figures, and says so when ours is the worse one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medtex_edge.evaluate.report.checks import (
    ablation,
    cost,
    curve,
    kept,
    leakage,
    numbers_of,
    percents,
    randomisation,
    shown,
)
from medtex_edge.evaluate.report.figures import (
    HIGHER,
    Contender,
    Figure,
    Measure,
    better_than,
    contenders,
    figure,
    is_number,
    listed,
    measures_of,
    rows_of,
    table,
    with_interval,
)

Facts = Mapping[str, Any]
UNDECIDED = "Where intervals overlap, these figures do not decide who is better."


def summary(evaluation: Facts) -> list[str]:
    """The whole evaluation in sentences, the answer first; what was not measured has none."""
    answer, explanation = table(evaluation.get("answer")), table(evaluation.get("explanation"))
    comparisons = [
        *compared(table(evaluation.get("lesions")), "Against lesions marked by hand"),
        *compared(explanation, "By the independent evaluator"),
    ]
    said = [*_answer(answer), *comparisons]
    found = [
        *said,
        UNDECIDED if any("intervals overlap" in line for line in said) else "",
        kept(explanation),
        leakage(explanation),
        randomisation(explanation),
        cost(table(evaluation.get("cost"))),
        *ablation(evaluation),
        *curve(table(evaluation.get("curve"))),
    ]
    return [sentence for sentence in found if sentence]


def _answer(answer: Facts) -> list[str]:
    models = table(answer.get("models"))
    student, teacher = table(models.get("student")), table(models.get("teacher"))
    mine, other = with_interval(student, "auc_referable"), with_interval(teacher, "auc_referable")
    sentences = []
    if mine:
        sentence = f"The student tells referable photographs from others with AUC {shown(mine)}"
        if other:
            sentence += f"; its teacher with {shown(other)}: {_verdict(mine, other, HIGHER, 'the student')}"
        sentences.append(sentence + ".")
    point = table(student.get("operating_point"))
    sensitivity, specificity = with_interval(point, "sensitivity"), with_interval(point, "specificity")
    if sensitivity and specificity:
        sentences.append(
            f"At its sealed threshold it finds {percents(sensitivity)} of the referable photographs and leaves "
            f"{percents(specificity)} of the others alone."
        )
    if error := with_interval(table(student.get("calibration")), "ece"):
        sentences.append(f"The probabilities that it states are off by {shown(error)} on average.")
    agreement = {kind: figure(table(answer.get("agreement")).get(kind)) for kind in ("label", "verdict")}
    said = [f"the same {'class' if k == 'label' else k} in {percents(f)}" for k, f in agreement.items() if f]
    if said:
        sentences.append(f"It gives its teacher's answer: {' and '.join(said)} of the photographs.")
    return sentences


def compared(part: Facts, opening: str) -> list[str]:
    """One sentence per judged measure: ours against the best rival and the best control."""
    measures = measures_of(part)
    rows = contenders(rows_of(part), measures)
    ours = next((row for row in rows if row.kind == "ours"), None)
    sentences = []
    for key, measure in measures.items():
        if ours is None or not measure.judged or key not in ours.best:
            continue
        mine = ours.best[key][0]
        sentence = f"{opening}, {measure.title} of our maps is {shown(mine)}, {measure.better} is better."
        for kind, words in (("rival", "The best of {} rivals at its best layer"), ("control", "The best control")):
            if best := best_of(rows, kind, key, measure):
                count = sum(row.kind == kind and key in row.best for row in rows)
                name = f"{best.title.removeprefix('control: ')}{_layer(best, key)}"
                verdict = _verdict(mine, best.best[key][0], measure.better, "ours")
                sentence += f" {words.format(count)}, {name}: {shown(best.best[key][0])}; {verdict}."
        sentences.append(sentence)
    return sentences


def losses(part: Facts) -> list[str]:
    """The judged measures in which a rival or a control is better than ours, for the head of the page."""
    measures = measures_of(part)
    rows = contenders(rows_of(part), measures)
    ours = next((row for row in rows if row.kind == "ours"), None)
    found = []
    for key, measure in measures.items() if ours else ():
        if ours is None or not measure.judged or key not in ours.best:
            continue
        mine = ours.best[key][0]
        for kind in ("rival", "control"):
            best = best_of(rows, kind, key, measure)
            if best and better_than(best.best[key][0].value, mine.value, measure):
                what = "a rival" if kind == "rival" else "a control that knows nothing of the photograph"
                found.append(
                    f"In {measure.title} our maps ({mine.value:.3f}) lose to {what}: "
                    f"{best.title.removeprefix('control: ')}{_layer(best, key)} ({best.best[key][0].value:.3f})."
                )
    return found


def best_of(rows: Sequence[Contender], kind: str, key: str, measure: Measure) -> Contender | None:
    """The row of a kind that is best in a measure; None where none was measured."""
    best: Contender | None = None
    for row in rows:
        if row.kind != kind or key not in row.best:
            continue
        if best is None or better_than(row.best[key][0].value, best.best[key][0].value, measure):
            best = row
    return best


def _verdict(mine: Figure, other: Figure, better: str, who: str) -> str:
    """Who is better, and whether the intervals leave it open."""
    if f"{mine.value:.3f}" == f"{other.value:.3f}":
        return "no difference"
    won = (mine.value > other.value) == (better == HIGHER)
    words = f"{who} {'is better' if won else 'loses'}"
    if mine.low is None or mine.high is None or other.low is None or other.high is None:
        return words
    apart = mine.low > other.high or mine.high < other.low
    return f"{words} ({'intervals apart' if apart else 'intervals overlap'})"


def failures(evaluation: Facts) -> list[str]:
    """How many answers differ from the label, and how many of the verdicts, each kind of miss apart."""
    student = table(table(table(evaluation.get("answer")).get("models")).get("student"))
    matrix = [numbers_of(row) for row in listed(student.get("confusion"))]
    if not matrix or any(len(row) != len(matrix) for row in matrix):
        return []
    total, wrong = sum(map(sum, matrix)), sum(v for i, row in enumerate(matrix) for j, v in enumerate(row) if i != j)
    said = [f"{wrong:.0f} of {total:.0f} photographs were given another class than their label."]
    point = table(student.get("operating_point"))
    sensitivity, specificity = with_interval(point, "sensitivity"), with_interval(point, "specificity")
    positives = student.get("positives")
    if sensitivity and specificity and is_number(positives):
        missed = round((1 - sensitivity.value) * positives)
        needless = round((1 - specificity.value) * (total - positives))
        said.append(
            f"At the threshold {missed} of {positives:.0f} referable photographs were missed, and {needless} of "
            f"{total - positives:.0f} others referred."
        )
    return said


def _layer(row: Contender, key: str) -> str:
    return f", {row.best[key][1]}" if row.best[key][1] else ""
