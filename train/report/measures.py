"""The words of report.html: what each figure means, what a map means and does not, and the summary."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

NO_DEVICE = (
    "This is research software and no medical device. It has not been validated for any clinical use, and nothing "
    "here may decide about a patient."
)
SYNTHETIC = (
    "The photographs of this run were drawn by a program. Its figures show that the software works from end to "
    "end; they say nothing about eyes."
)

MODEL_NAMES = {
    "teacher": "teacher",
    "student": "student, under its own mask",
    "student_whole_picture": "student, mask left open",
}

# key of metrics.json -> its short name, what it says
MODEL_MEASURES = {
    "n": ("n", "validation photographs it was measured on"),
    "auc_referable": (
        "AUC",
        "the chance that a referable photograph gets a higher referable probability than one that is not",
    ),
    "accuracy": ("accuracy", "the fraction of photographs given exactly their class"),
    "qwk": ("kappa", "agreement of the grades beyond chance, a miss by two grades costing four times one by one"),
    "sensitivity": ("sensitivity", "the fraction of the referable photographs found"),
    "specificity": ("specificity", "the fraction of the others left alone"),
    "ece": ("calibration error", "by how much stated and true frequencies differ on average"),
}
MAP_MEASURES = {
    "mean_area": ("mean area", "the share of a photograph's detail that the student sees, averaged; less is sharper"),
    "mean_area_referable": ("mean area, referable", "the same over the photographs that were called referable"),
    "mean_area_not_referable": ("mean area, others", "the same over the others"),
    "pixel_auc": (
        "pixel AUC",
        "the chance that a lesion's pixel is brighter in the map than one beside lesions; 0.5 is guessing",
    ),
    "pointing": ("pointing", "the fraction of maps whose brightest point lies on a lesion, within a few pixels"),
    "relevance_over_chance": (
        "relevance over chance",
        "how much of the map's weight lies on lesions, against a map spread evenly; 1 is chance",
    ),
    "deletion": ("deletion", "how fast the answer falls when the brightest parts are taken away; less is better"),
    "insertion": ("insertion", "how fast the answer returns when the brightest parts are shown first; more is better"),
    "n": ("n", "photographs with lesions marked by hand"),
}
CONTROL_NAMES = {
    "mean_map": "one average map for all",
    "centred_gaussian": "a spot in the middle",
    "other_photograph": "the map of another photograph",
}

MAP_READING = (
    "A map shows what the answer was made from. The student sees the photograph only through it: full detail where "
    "the map is 1, the blurred photograph where it is 0. It is part of the computation, not a picture made afterwards.",
    "Colours mean the same everywhere: the scale is 0 to 1 in every picture, drawn by the root so that small values "
    "can be seen, and never stretched to a picture's own maximum.",
    "Wide, faint maps on healthy photographs are expected: no small region shows that nothing is there.",
)
MAP_LIMITS = (
    "It is no segmentation: a lesion outside of the bright part was not needed for the answer, which does not mean "
    "that it is absent.",
    "Outside of the bright part the student still sees the blurred photograph: colour, brightness and anatomy "
    "at a coarse scale can contribute everywhere.",
    "Its resolution is a quarter of the input's. Microaneurysms of one to three pixels are located by their "
    "neighbourhood at best.",
    "A map that looks sensible does not make an answer right; look at the failures as well as at the hits.",
    "How far a map beats the controls, not its own figure, says how much it knows of this photograph.",
)

# how a picture's file name opens -> (its title, its caption)
PLOTS = {
    "roc": (
        "ROC curve of the referable probability",
        "Every threshold's trade between missed and needless referrals, and the one that was chosen.",
    ),
    "confusion": (
        "Confusion matrix",
        "Labels down, answers across; the number of photographs in each cell, shaded by the fraction of its row.",
    ),
    "sheet": (
        "Validation photographs with their saliency",
        "Pairs: the photograph, and its saliency upon it. Outlines, where there are any, were drawn by hand.",
    ),
    "failure": (
        "Failures: photographs answered wrongly",
        "Photographs that were answered wrongly, with their saliency. Worth more of a reader's time than the hits.",
    ),
    "history": (
        "Loss terms and validation measures over the epochs",
        "Each term on its own scale; blue was minimised, orange was measured on validation photographs. "
        "Between phases a term may change its meaning.",
    ),
}


def plain_words(metrics: Mapping[str, Any], model: Mapping[str, Any]) -> list[str]:
    """The summary as sentences, each left out where its figure was not measured."""
    student, teacher = _dict(metrics.get("student")), _dict(metrics.get("teacher"))
    return [
        sentence
        for sentence in (
            _ranking(student, teacher),
            _operation(_dict(metrics.get("operating_point")) or _dict(model.get("operating_point"))),
            _agreement(metrics.get("agreement")),
            _map_sentence(_dict(metrics.get("saliency"))),
            _sample_size(student or teacher),
        )
        if sentence
    ]


def number(value: object) -> str:
    """A figure for a table: counts whole, measures with three decimals, '-' where there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "-"
    return str(int(value)) if float(value).is_integer() and abs(value) > 1 else f"{value:.3f}"


def percent(value: float) -> str:
    """A fraction in words that a reader compares at a glance: no decimals, which small samples never carry."""
    return f"{100 * value:.0f} %"


def _ranking(student: Mapping[str, Any], teacher: Mapping[str, Any]) -> str:
    mine, other = student.get("auc_referable"), teacher.get("auc_referable")
    if not isinstance(mine, float):
        return ""
    bounds = student.get("auc_referable_interval")
    interval = f" (95 % interval {percent(bounds[0])} to {percent(bounds[1])})" if isinstance(bounds, list) else ""
    sentence = (
        f"Of two photographs, one referable and one not, the student ranks the referable one higher in {percent(mine)}"
    )
    sentence += f" of all pairs{interval}"
    return sentence + (f"; its teacher does in {percent(other)}." if isinstance(other, float) else ".")


def _operation(point: Mapping[str, Any]) -> str:
    found, spared = point.get("sensitivity"), point.get("specificity")
    if not isinstance(found, int | float) or not isinstance(spared, int | float):
        return ""
    return (
        f"At its threshold it finds {percent(found)} of the {point.get('positives', '')} referable photographs and "
        f"leaves {percent(spared)} of the {point.get('negatives', '')} others alone."
    )


def _agreement(value: object) -> str:
    if not isinstance(value, float):
        return ""
    return f"It gives the same class as its teacher on {percent(value)} of the photographs."


def _map_sentence(saliency: Mapping[str, Any]) -> str:
    area, auc = saliency.get("mean_area"), saliency.get("pixel_auc")
    if not isinstance(area, float):
        return ""
    sentence = f"To do so it sees {percent(area)} of a photograph's detail on average, the rest only blurred."
    if isinstance(auc, float):
        sentence += f" A pixel of a lesion is brighter in its map than one beside lesions in {percent(auc)} of pairs"
        control = _dict(_dict(saliency.get("controls")).get("mean_map")).get("pixel_auc")
        known = f", against {percent(control)} for one map for all photographs" if isinstance(control, float) else ""
        sentence += known + "."
    return sentence


def _sample_size(values: Mapping[str, Any]) -> str:
    count = values.get("n")
    if not isinstance(count, int) or count < 1:
        return ""
    caution = "; look at the intervals before the figures" if count < 500 else ""
    return (
        f"All this was measured on {count} validation photographs, where one photograph is {100 / count:.3g} points of "
        f"accuracy{caution}. No weight was trained on them, but the best epoch, the temperature and the threshold were "
        "chosen on them."
    )


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
