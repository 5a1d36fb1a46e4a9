"""The warnings at the head of the report: reasons to doubt what follows, and what was not measured."""

from __future__ import annotations

from medtex_edge.evaluate.report.contenders import our_figures, rows_of
from medtex_edge.evaluate.report.summary import losses
from medtex_edge.strictjson import JsonObject
from medtex_edge.train.report.figures import figure, is_number, listed, percent, table, with_interval
from medtex_edge.train.report.measures import BASELINE, CONTROL
from medtex_edge.train.report.report import student_warnings

FEW_LESIONS = 20


def warnings(evaluation: JsonObject) -> list[str]:
    """Those that the evaluation itself gave, then those that follow from its figures."""
    answer, explanation = table(evaluation.get("answer")), table(evaluation.get("explanation"))
    lesions = table(evaluation.get("lesions"))
    given = [str(line) for line in (*listed(evaluation.get("warnings")), *listed(explanation.get("warnings")))]
    derived = [
        *losses(lesions),
        *losses(explanation),
        *student_warnings(table(table(answer.get("models")).get("student"))),
        *_of_agreement(answer),
        *_of_groups(table(answer.get("groups"))),
        *_of_lesions(lesions),
        *_of_evaluator(table(explanation.get("evaluator"))),
    ]
    leak = table(explanation.get("leakage"))
    obeyed = figure(leak.get("obeys_mask"))
    if obeyed and obeyed.low is not None and obeyed.low > 0.5:
        derived.append("The student's answer follows the mask even over another photograph: see under leakage.")
    elif leak.get("readable") is True:
        derived.append("More of the answer can be read from the mask alone than from its area: see under leakage.")
    return list(dict.fromkeys(given + derived))


def not_measured(evaluation: JsonObject) -> list[str]:
    """One line for each part of the report that is missing, with the option that adds it."""
    answer, explanation = table(evaluation.get("answer")), table(evaluation.get("explanation"))
    models = table(answer.get("models"))
    student = table(models.get("student"))
    kinds = {row.kind for part in (explanation, table(evaluation.get("lesions"))) for row in rows_of(part)}
    ours = our_figures(explanation)
    parts = {
        "the answers on labelled photographs": student,
        "the teacher on the same photographs": models.get("teacher"),
        "sensitivity and specificity at the threshold": student.get("operating_point"),
        "calibration": student.get("calibration"),
        "the groups (camera or site) apart: --group-column": answer.get("groups"),
        "the explanation by an independent evaluator": rows_of(explanation),
        "baseline explanations: --against": BASELINE in kinds,
        "controls that do not depend on the photograph": CONTROL in kinds,
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


def _of_agreement(answer: JsonObject) -> list[str]:
    lines = []
    agreement = figure(table(answer.get("agreement")).get("verdict"))
    if agreement and agreement.value < 0.8:
        lines.append(f"The student's verdict is its teacher's on {percent(agreement.value)} of the photographs only.")
    return lines


def _of_groups(groups: JsonObject) -> list[str]:
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


def _of_lesions(lesions: JsonObject) -> list[str]:
    if is_number(lesions.get("n")) and lesions["n"] < FEW_LESIONS:
        return [f"Only {lesions['n']:.0f} photographs have lesions marked by hand."]
    return []


def _of_evaluator(evaluator: JsonObject) -> list[str]:
    quality = evaluator.get("auc_referable")
    if is_number(quality) and quality < 0.75:
        return [
            f"The independent evaluator itself reaches an AUC of {quality:.2f} only: its figures of the explanations "
            "are as doubtful."
        ]
    return []
