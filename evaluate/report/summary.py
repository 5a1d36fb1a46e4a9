"""An evaluation in sentences. Each is made from figures, and states plainly where ours is the worse one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medtex_edge.evaluate.report.contenders import (
    Contender,
    better_than,
    contenders,
    measures_of,
    our_figures,
    rows_of,
)
from medtex_edge.strictjson import JsonObject
from medtex_edge.train.curve.plot import by_fraction
from medtex_edge.train.report.figures import (
    Figure,
    bounds,
    figure,
    figure_text,
    is_number,
    listed,
    numbers,
    percent,
    percent_text,
    table,
    with_interval,
)
from medtex_edge.train.report.measures import BASELINE, CONTROL, HIGHER, MEASURES, OURS, Measure

UNDECIDED = "Where intervals overlap, these figures do not decide who is better."


def summary(evaluation: JsonObject) -> list[str]:
    """The whole evaluation in sentences, the answer first; what was not measured has none."""
    answer, explanation = table(evaluation.get("answer")), table(evaluation.get("explanation"))
    compared = [
        *comparisons(table(evaluation.get("lesions")), "Against lesions marked by hand"),
        *comparisons(explanation, "By the independent evaluator"),
    ]
    measured = [*_answer(answer), *compared]
    found = [
        *measured,
        UNDECIDED if any("intervals overlap" in line for line in measured) else "",
        verdict_kept(explanation),
        leakage(explanation),
        randomisation(explanation),
        cost(table(evaluation.get("cost"))),
        *ablation(evaluation),
        *curve(table(evaluation.get("curve"))),
    ]
    return [sentence for sentence in found if sentence]


def _answer(answer: JsonObject) -> list[str]:
    models = table(answer.get("models"))
    student, teacher = table(models.get("student")), table(models.get("teacher"))
    mine, other = with_interval(student, "auc_referable"), with_interval(teacher, "auc_referable")
    sentences = []
    if mine:
        sentence = f"The student separates referable photographs from others with AUC {figure_text(mine)}"
        if other:
            sentence += f"; its teacher with {figure_text(other)}: {_verdict(mine, other, HIGHER, 'the student')}"
        sentences.append(sentence + ".")
    point = table(student.get("operating_point"))
    sensitivity, specificity = with_interval(point, "sensitivity"), with_interval(point, "specificity")
    if sensitivity and specificity:
        sentences.append(
            f"At its sealed threshold it finds {percent_text(sensitivity)} of the referable photographs and does not "
            f"refer {percent_text(specificity)} of the others."
        )
    if error := with_interval(table(student.get("calibration")), "ece"):
        sentences.append(f"The probabilities that it states are off by {figure_text(error)} on average.")
    agreement = {kind: figure(table(answer.get("agreement")).get(kind)) for kind in ("label", "verdict")}
    same = [f"the same {'class' if k == 'label' else k} in {percent_text(f)}" for k, f in agreement.items() if f]
    if same:
        sentences.append(f"It gives its teacher's answer: {' and '.join(same)} of the photographs.")
    return sentences


def comparisons(part: JsonObject, opening: str) -> list[str]:
    """One sentence per compared measure: ours against the best baseline and the best control."""
    measures = measures_of(part)
    rows = contenders(rows_of(part), measures)
    ours = next((row for row in rows if row.kind == OURS), None)
    sentences = []
    for key, measure in measures.items():
        if ours is None or not measure.compared or key not in ours.best:
            continue
        mine = ours.best[key][0]
        sentence = f"{opening}, {measure.title} of our maps is {figure_text(mine)}, {measure.better} is better."
        for kind, subject in (
            (BASELINE, "The best of {} baselines at its best layer"),
            (CONTROL, "The best control"),
        ):
            if best := best_of(rows, kind, key, measure):
                count = sum(row.kind == kind and key in row.best for row in rows)
                name = f"{best.title.removeprefix('control: ')}{_layer(best, key)}"
                verdict = _verdict(mine, best.best[key][0], measure.better, "ours")
                sentence += f" {subject.format(count)}, {name}: {figure_text(best.best[key][0])}; {verdict}."
        sentences.append(sentence)
    return sentences


def losses(part: JsonObject) -> list[str]:
    """The compared measures in which a baseline or a control is better than ours, for the head of the page."""
    measures = measures_of(part)
    rows = contenders(rows_of(part), measures)
    ours = next((row for row in rows if row.kind == OURS), None)
    found = []
    for key, measure in measures.items() if ours else ():
        if ours is None or not measure.compared or key not in ours.best:
            continue
        mine = ours.best[key][0]
        for kind in (BASELINE, CONTROL):
            best = best_of(rows, kind, key, measure)
            if best and better_than(best.best[key][0].value, mine.value, measure):
                what = "a baseline" if kind == BASELINE else "a control that does not depend on the photograph"
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
    """Which one is better, and whether the intervals decide it."""
    if f"{mine.value:.3f}" == f"{other.value:.3f}":
        return "no difference"
    won = (mine.value > other.value) == (better == HIGHER)
    verdict = f"{who} {'is better' if won else 'loses'}"
    if mine.low is None or mine.high is None or other.low is None or other.high is None:
        return verdict
    apart = mine.low > other.high or mine.high < other.low
    return f"{verdict} ({'intervals apart' if apart else 'intervals overlap'})"


def failures(evaluation: JsonObject) -> list[str]:
    """How many answers differ from the label, and how many of the verdicts, each kind of miss apart."""
    student = table(table(table(evaluation.get("answer")).get("models")).get("student"))
    matrix = [numbers(row) for row in listed(student.get("confusion"))]
    if not matrix or any(len(row) != len(matrix) for row in matrix):
        return []
    total, wrong = sum(map(sum, matrix)), sum(v for i, row in enumerate(matrix) for j, v in enumerate(row) if i != j)
    lines = [f"{wrong:.0f} of {total:.0f} photographs were given another class than their label."]
    point = table(student.get("operating_point"))
    sensitivity, specificity = with_interval(point, "sensitivity"), with_interval(point, "specificity")
    positives = student.get("positives")
    if sensitivity and specificity and is_number(positives):
        missed = round((1 - sensitivity.value) * positives)
        needless = round((1 - specificity.value) * (total - positives))
        lines.append(
            f"At the threshold {missed} of {positives:.0f} referable photographs were missed, and {needless} of "
            f"{total - positives:.0f} others referred."
        )
    return lines


def verdict_kept(explanation: JsonObject) -> str:
    """Whether the answer under the deployed mask is the teacher's to the whole photograph, and the area of the mask."""
    ours = our_figures(explanation)
    verdict, area = ours.get("fidelity_verdict_referable"), ours.get("area_referable")
    where = "on the photographs that the teacher calls referable"
    if not verdict:
        verdict, area, where = ours.get("fidelity_verdict"), ours.get("area"), "over all photographs"
    if not verdict:
        return ""
    opened = f", of which the mask opens {percent(area.value)} of the detail" if area else ""
    return f"Under its mask alone the student keeps the teacher's verdict in {percent_text(verdict)} {where}{opened}."


def leakage(explanation: JsonObject) -> str:
    """What of the answer can be read from the mask alone, and whether the student reads it there."""
    found = table(explanation.get("leakage"))
    lines = []
    if is_number(found.get("auc_map")):
        controls = {
            "auc_area_matched": "its values arranged as another photograph's mask",
            "auc_place_matched": "its values placed by a method that was not trained with the student",
            "auc_shuffled": "its values scattered",
        }
        others = [f"{found[key]:.2f} from {text}" for key, text in controls.items() if is_number(found.get(key))]
        lines.append(
            "From the mask alone a small classifier separates referable from not with AUC "
            + ", against ".join([f"{found['auc_map']:.2f}", *([" and ".join(others)] if others else [])])
        )
    interval = bounds(found.get("interval_difference"))
    reach = f" (difference to another's arrangement {interval[0]:+.2f} to {interval[1]:+.2f})" if interval else ""
    if lines and found.get("readable") is True:
        lines[0] += (
            f"{reach}: place and shape of the mask predict the answer beyond its area, either because lesions have "
            "their places, or as a code"
        )
    elif lines and found.get("readable") is False:
        lines[0] += f"{reach}: no sign that place or shape of the mask predict more than its area"
    obeyed = figure(found.get("obeys_mask"))
    if obeyed:
        follows = obeyed.low is not None and obeyed.low > 0.5
        verdict = "it follows the mask, so a part of the answer is in it" if follows else "it does not obey the mask"
        lines.append(
            "Under the mask of another photograph the student's answer predicts the label of that other one with AUC "
            f"{figure_text(obeyed)}: {verdict}"
        )
    return "".join(f"{sentence}. " for sentence in lines).rstrip()


def randomisation(explanation: JsonObject) -> str:
    """Whether the map depends on what the model learned (Adebayo et al., NeurIPS 2018)."""
    value = our_figures(explanation).get("randomisation")
    if not value:
        return ""
    if abs(value.value) < 0.3:
        verdict = "the maps come from what was learned"
    elif abs(value.value) < 0.6:
        verdict = "a part of the maps would be there without any learning"
    else:
        verdict = "the maps hardly depend on what was learned, and are no explanation of it"
    return f"With its weights shuffled, the rank correlation of new and old maps is {figure_text(value)}: {verdict}."


def cost(found: JsonObject) -> str:
    """What the explanation costs on top of the answer."""
    share = found.get("explainer_over_student")
    ratio = table(found.get("onnxruntime")).get("ratio")
    gradcam = table(found.get("gradcam_torch")).get("ratio")
    lines = [f"the explainer takes {percent(share)} of the student's multiply-adds"] if is_number(share) else []
    lines += [f"map and answer take {ratio:.2f} times the student alone in ONNX Runtime"] if is_number(ratio) else []
    lines += [f"Grad-CAM in PyTorch {gradcam:.2f} times"] if is_number(gradcam) else []
    return f"Cost: {', '.join(lines)}." if lines else ""


def ablation(evaluation: JsonObject) -> list[str]:
    """Which variants and baselines are not worse than the evaluated run, the question of an ablation."""
    rows = [table(row) for row in listed(table(evaluation.get("ablation")).get("rows"))]
    found = []
    for key in ("auc_referable", "pixel_auc", "pointing"):
        means = [(str(row.get("name")), float(np.mean(v))) for row in rows if (v := numbers(row.get(key)))]
        if len(means) < 2:
            continue
        (name, mine), *others = means
        better = [f"{other} ({value:.3f})" for other, value in others if value >= mine]
        verdict = f"not better than {', '.join(better)}" if better else f"better than {_all_of(len(others))}"
        found.append(
            f"Compared with other trainings, {MEASURES[key].title}: {name} ({mine:.3f}) is {verdict}, in the mean over "
            "the seeds."
        )
    return found


def curve(found: JsonObject) -> list[str]:
    """The method against each other one at each fraction of the labels, paired over the seeds."""
    methods = {str(name): table(method) for name, method in table(found.get("methods")).items()}
    mine = next((name for name in methods if name.startswith("medtex")), None)
    sentences = []
    for name, method in methods.items():
        if mine is None or name.startswith("medtex"):
            continue
        lines = []
        ours, theirs = (by_fraction(m.get("points"), "auc_referable") for m in (methods[mine], method))
        for fraction in sorted(set(ours) & set(theirs)):
            pairs = [ours[fraction][s] - theirs[fraction][s] for s in ours[fraction] if s in theirs[fraction]]
            if pairs:
                reach = f" ({min(pairs):+.3f} to {max(pairs):+.3f})" if len(pairs) > 1 else ""
                lines.append(f"{np.mean(pairs):+.3f} at {percent(fraction)}{reach}")
        if lines:
            title = f"{methods[mine].get('title') or mine} minus {method.get('title') or name}"
            sentences.append(f"AUC with fewer labels, {title}, paired over the seeds: {'; '.join(lines)}.")
    return sentences


def _layer(row: Contender, key: str) -> str:
    return f", {row.best[key][1]}" if row.best[key][1] else ""


def _all_of(count: int) -> str:
    return f"each of the {count} others" if count > 1 else "the other"
