"""What stands at the head of the report: reasons to doubt what follows, and what nobody measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medtex_edge.evaluate.report.figures import figure, is_number, listed, rows_of, table, with_interval
from medtex_edge.evaluate.report.summary import losses
from medtex_edge.train.report.wording import percent

Facts = Mapping[str, Any]
FEW = 100  # photographs, below which a proportion's interval is wider than most differences between methods
FEW_LESIONS = 20


def warnings(evaluation: Facts) -> list[str]:
    """Those that the evaluation itself gave, then those that follow from its figures."""
    answer, explanation = table(evaluation.get("answer")), table(evaluation.get("explanation"))
    lesions = table(evaluation.get("lesions"))
    given = [str(line) for line in (*listed(evaluation.get("warnings")), *listed(explanation.get("warnings")))]
    derived = [
        *losses(lesions),
        *losses(explanation),
        *_of_answer(answer),
        *_of_groups(table(answer.get("groups"))),
        *_of_samples(answer, lesions),
        *_of_judge(table(explanation.get("evaluator"))),
    ]
    leak = table(explanation.get("leakage"))
    obeyed = figure(leak.get("obeys_mask"))
    if obeyed and obeyed.low is not None and obeyed.low > 0.5:
        derived.append("The student's answer follows the mask even over another photograph: see under leakage.")
    elif leak.get("readable") is True:
        derived.append("More of the answer can be read from the mask alone than its area tells: see under leakage.")
    return list(dict.fromkeys(given + derived))


def not_measured(evaluation: Facts) -> list[str]:
    """One line for each part of the report that is missing, with the way to get it."""
    answer, explanation = table(evaluation.get("answer")), table(evaluation.get("explanation"))
    models = table(answer.get("models"))
    student = table(models.get("student"))
    kinds = {row.kind for part in (explanation, table(evaluation.get("lesions"))) for row in rows_of(part)}
    ours = next((row.figures for row in rows_of(explanation) if row.kind == "ours"), {})
    parts = {
        "the answers on labelled photographs": student,
        "the teacher on the same photographs": models.get("teacher"),
        "sensitivity and specificity at the threshold": student.get("operating_point"),
        "calibration": student.get("calibration"),
        "the groups (camera or site) apart: --group-column": answer.get("groups"),
        "the explanation by an independent evaluator": rows_of(explanation),
        "rival explanations: --against": "rival" in kinds,
        "controls that know nothing of the photograph": "control" in kinds,
        "the maps against lesions marked by hand: --masks": rows_of(table(evaluation.get("lesions"))),
        "leakage through the mask's shape": table(explanation.get("leakage")),
        "the randomisation check": ours.get("randomisation"),
        "stability of the maps": ours.get("max_sensitivity"),
        "the cost of the explainer": evaluation.get("cost"),
        "the gallery": evaluation.get("gallery"),
        "other trainings, the ablation of the terms: --compare": table(evaluation.get("ablation")).get("rows"),
        "the less-data curve: medtex-edge curve, then --curve": table(evaluation.get("curve")).get("methods"),
    }
    return [what for what, found in parts.items() if not found]


def _of_answer(answer: Facts) -> list[str]:
    student = table(table(answer.get("models")).get("student"))
    point = table(student.get("operating_point"))
    found, wanted = with_interval(point, "sensitivity"), point.get("target_sensitivity")
    lines = []
    if found and is_number(wanted) and found.value < wanted:
        reached = f", with an interval up to {percent(found.high)}" if found.high is not None else ""
        lines.append(
            f"The threshold was set for a sensitivity of {percent(wanted)}; here it finds "
            f"{percent(found.value)} of the referable photographs{reached}."
        )
    error = with_interval(table(student.get("calibration")), "ece")
    if error and error.value > 0.1:
        lines.append(f"The stated probabilities are off by {error.value:.2f} on average: do not read them as risks.")
    agreement = figure(table(answer.get("agreement")).get("verdict"))
    if agreement and agreement.value < 0.8:
        lines.append(f"The student's verdict is its teacher's on {percent(agreement.value)} of the photographs only.")
    return lines


def _of_groups(groups: Facts) -> list[str]:
    lines = []
    for column, values in groups.items():
        known = {str(name): f for name, of in table(values).items() if (f := with_interval(table(of), "auc_referable"))}
        if len(known) > 1:
            low, high = min(known, key=lambda k: known[k].value), max(known, key=lambda k: known[k].value)
            if known[high].value - known[low].value > 0.05:
                lines.append(
                    f"The answers are not equally good everywhere: AUC {known[low].value:.2f} for {column} {low}, "
                    f"{known[high].value:.2f} for {high}."
                )
    return lines


def _of_samples(answer: Facts, lesions: Facts) -> list[str]:
    count = table(table(answer.get("models")).get("student")).get("n")
    lines = []
    if is_number(count) and 0 < count < FEW:
        lines.append(
            f"Measured on {count:.0f} photographs, where one photograph is {100 / count:.2g} points of accuracy: "
            "look at the intervals before the figures."
        )
    if is_number(lesions.get("n")) and lesions["n"] < FEW_LESIONS:
        lines.append(f"Only {lesions['n']:.0f} photographs have lesions marked by hand.")
    return lines


def _of_judge(judge: Facts) -> list[str]:
    quality = judge.get("auc_referable")
    if is_number(quality) and quality < 0.75:
        return [
            f"The independent evaluator itself reaches an AUC of {quality:.2f} only: what it says of the explanations "
            "is as doubtful."
        ]
    return []
