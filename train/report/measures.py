"""The one table of measures: how each is called, which direction is better, and what it means.

Every report, plot and model card of training and of evaluation takes its titles from here.
"""

from __future__ import annotations

from typing import NamedTuple

LOWER, HIGHER = "lower", "higher"

# The kinds of row in evaluation.json: our own map, an attribution method as baseline, a control.
OURS, BASELINE, CONTROL = "ours", "rival", "control"


class Measure(NamedTuple):
    """A measure's title, the better direction ("" where there is none), its meaning, and whether baselines and
    controls compete in it."""

    title: str
    better: str
    meaning: str
    compared: bool = False


_AREA = Measure("area", LOWER, "the share of a photograph's detail that the mask opens")
_AREA_REFERABLE = Measure("area, referable", LOWER, "the same over the photographs that were called referable")
_RELEVANCE = Measure(
    "relevance over chance", HIGHER, "how much of the map lies on lesions, against an even map; 1 is chance", True
)

# Keys of a model in metrics.json and evaluation.json.
ANSWER_MEASURES = {
    "n": Measure("n", "", "photographs with a label that it was measured on"),
    "auc_referable": Measure(
        "AUC of referable", HIGHER, "the chance that a referable photograph scores higher than one that is not"
    ),
    "auc_macro": Measure("AUC, mean of classes", HIGHER, "the mean over the classes of each against the rest"),
    "accuracy": Measure("accuracy", HIGHER, "the fraction of photographs given exactly their class"),
    "qwk": Measure(
        "quadratic kappa",
        HIGHER,
        "agreement beyond chance, where a miss by two grades costs four times one by one",
    ),
    "sensitivity": Measure(
        "sensitivity", HIGHER, "the fraction of the referable photographs that are found at the threshold"
    ),
    "specificity": Measure("specificity", HIGHER, "the fraction of the others that are not referred"),
    "ece": Measure(
        "calibration error", LOWER, "the mean difference between stated probabilities and measured frequencies"
    ),
    "brier": Measure("Brier score", LOWER, "squared error of the stated probabilities"),
}

# Keys of an explanation in metrics.json and evaluation.json, in the order of the reports.
MAP_MEASURES = {
    "pixel_auc": Measure(
        "pixel AUC", HIGHER, "the chance that a pixel of a lesion is brighter than one outside; 0.5 is guessing", True
    ),
    "pointing": Measure(
        "pointing", HIGHER, "the fraction of maps whose brightest point lies on a lesion, within a few pixels", True
    ),
    "relevance": _RELEVANCE,
    "relevance_over_chance": _RELEVANCE,
    "dice": Measure("Dice", HIGHER, "overlap with the lesions when the map is cut to the lesions' own area", True),
    "deletion": Measure(
        "deletion",
        LOWER,
        "what is left of the probability of the teacher's class, on average, while the most salient detail is taken "
        "away first, by the independent evaluator",
        True,
    ),
    "insertion": Measure(
        "insertion",
        HIGHER,
        "how much of that probability is there, on average, while the most salient detail comes first, by the "
        "independent evaluator",
        True,
    ),
    "deletion_referable": Measure(
        "deletion, referable",
        LOWER,
        "the same for the referable probability, over the photographs that the teacher calls referable",
        True,
    ),
    "insertion_referable": Measure(
        "insertion, referable",
        HIGHER,
        "the same for the referable probability, over the photographs that the teacher calls referable",
        True,
    ),
    "road": Measure(
        "ROAD",
        HIGHER,
        "half the gap between the answers when the least and when the most salient part is filled in from its "
        "surroundings",
        True,
    ),
    "fidelity_label": Measure("class kept", HIGHER, "the class stays the teacher's when only the mask is seen"),
    "fidelity_verdict": Measure("verdict kept", HIGHER, "the verdict stays the teacher's when only the mask is seen"),
    "fidelity_verdict_referable": Measure(
        "verdict kept, referable", HIGHER, "the same over the photographs that the teacher calls referable"
    ),
    "area": _AREA,
    "mean_area": _AREA,
    "area_referable": _AREA_REFERABLE,
    "mean_area_referable": _AREA_REFERABLE,
    "mean_area_not_referable": Measure("area, others", LOWER, "the same over the other photographs"),
    "sparsity": Measure("sparsity (Gini)", HIGHER, "0 for an even map, towards 1 for a map of few bright points"),
    "max_sensitivity": Measure(
        "largest change", LOWER, "how far the map moves under small shifts and noise; a map that never changes scores 0"
    ),
    "randomisation": Measure(
        "kept after shuffling", LOWER, "rank correlation with the map of the same model with shuffled weights"
    ),
    "deletion_teacher": Measure(
        "deletion, by the teacher", LOWER, "as deletion, by the teacher, which was not trained on masked photographs"
    ),
    "insertion_teacher": Measure(
        "insertion, by the teacher", HIGHER, "as insertion, by the teacher, which was not trained on masked photographs"
    ),
}
MEASURES = ANSWER_MEASURES | MAP_MEASURES

MODEL_NAMES = {
    "teacher": "teacher",
    "student": "student, under its own mask",
    "student_whole_picture": "student, mask left open",
}
CONTROL_NAMES = {
    "mean_map": "one average map for all",
    "centred_gaussian": "a spot in the middle",
    "other_photograph": "the map of another photograph",
    "uniform": "an even map",
}
METHOD_NAMES = {
    "ours": "ours",
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
    "layercam": "LayerCAM",
    "ig": "integrated gradients",
    "rise": "RISE",
}


def method_title(name: str) -> str:
    """How the rows of tables name an explanation: "Grad-CAM", "control: an even map"."""
    if name in CONTROL_NAMES:
        return f"control: {CONTROL_NAMES[name]}"
    return METHOD_NAMES.get(name, name.replace("_", " "))
