"""Sentences about the method rather than its score: fidelity, leakage, randomisation, cost, ablation, less data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medtex_edge.evaluate.report.figures import Figure, bounds, figure, is_number, listed, rows_of, table
from medtex_edge.train.curve.plot import by_fraction
from medtex_edge.train.report.wording import percent

Facts = Mapping[str, Any]


def kept(explanation: Facts) -> str:
    """Whether the answer under the deployed mask is the teacher's to the whole photograph, beside what it costs."""
    ours = ours_of(explanation)
    verdict, area = ours.get("fidelity_verdict_referable"), ours.get("area_referable")
    where = "on the photographs that the teacher calls referable"
    if not verdict:
        verdict, area, where = ours.get("fidelity_verdict"), ours.get("area"), "over all photographs"
    if not verdict:
        return ""
    opened = f", of which the mask opens {percent(area.value)} of the detail" if area else ""
    return f"Under its mask alone the student keeps the teacher's verdict in {percents(verdict)} {where}{opened}."


def leakage(explanation: Facts) -> str:
    """What of the answer can be read from the mask alone, and whether the student reads it there."""
    found = table(explanation.get("leakage"))
    said = []
    if is_number(found.get("auc_map")):
        controls = {
            "auc_area_matched": "its values arranged as another photograph's mask",
            "auc_place_matched": "its values placed by a method that was not trained with the student",
            "auc_shuffled": "its values scattered",
        }
        others = [f"{found[key]:.2f} from {words}" for key, words in controls.items() if is_number(found.get(key))]
        said.append(
            "From the mask alone a small classifier tells referable from not with AUC "
            + ", against ".join([f"{found['auc_map']:.2f}", *([" and ".join(others)] if others else [])])
        )
    interval = bounds(found.get("interval_difference"))
    reach = f" (difference to another's arrangement {interval[0]:+.2f} to {interval[1]:+.2f})" if interval else ""
    if said and found.get("readable") is True:
        said[0] += (
            f"{reach}: place and shape of the mask tell the answer beyond its area, be it honestly, since lesions have "
            "their places, or as a code"
        )
    elif said and found.get("readable") is False:
        said[0] += f"{reach}: no sign that place or shape of the mask tell more than its area"
    obeyed = figure(found.get("obeys_mask"))
    if obeyed:
        follows = obeyed.low is not None and obeyed.low > 0.5
        verdict = "it follows the mask, so a part of the answer is in it" if follows else "it does not obey the mask"
        said.append(
            "Under the mask of another photograph the student's answer tells the label of that other one with AUC "
            f"{shown(obeyed)}: {verdict}"
        )
    return "".join(f"{sentence}. " for sentence in said).rstrip()


def randomisation(explanation: Facts) -> str:
    """Whether the map depends on what was learned (Adebayo et al., NeurIPS 2018)."""
    value = ours_of(explanation).get("randomisation")
    if not value:
        return ""
    if abs(value.value) < 0.3:
        verdict = "the maps come from what was learned"
    elif abs(value.value) < 0.6:
        verdict = "a part of the maps would be there without any learning"
    else:
        verdict = "the maps hardly depend on what was learned, and are no explanation of it"
    return f"With its weights shuffled, the rank correlation of new and old maps is {shown(value)}: {verdict}."


def cost(found: Facts) -> str:
    """What the explanation costs on top of the answer."""
    share = found.get("explainer_over_student")
    ratio = table(found.get("onnxruntime")).get("ratio")
    rival = table(found.get("gradcam_torch")).get("ratio")
    said = [f"the explainer takes {percent(share)} of the student's multiply-adds"] if is_number(share) else []
    said += [f"map and answer together {ratio:.2f} times the student alone in ONNX Runtime"] if is_number(ratio) else []
    said += [f"Grad-CAM in PyTorch {rival:.2f} times"] if is_number(rival) else []
    return f"Cost: {', '.join(said)}." if said else ""


def ablation(evaluation: Facts) -> list[str]:
    """Which variants and rivals are not worse than what is evaluated, the question that an ablation asks."""
    rows = [table(row) for row in listed(table(evaluation.get("ablation")).get("rows"))]
    found = []
    for key, title in (("auc_referable", "AUC"), ("pixel_auc", "pixel AUC"), ("pointing", "pointing")):
        means = [(str(row.get("name")), float(np.mean(v))) for row in rows if (v := numbers_of(row.get(key)))]
        if len(means) < 2:
            continue
        (name, mine), *others = means
        better = [f"{other} ({value:.3f})" for other, value in others if value >= mine]
        words = f"not better than {', '.join(better)}" if better else f"better than {_all_of(len(others))}"
        found.append(f"Beside other trainings, {title}: {name} ({mine:.3f}) is {words}, in the mean over the seeds.")
    return found


def curve(found: Facts) -> list[str]:
    """The method against each other one at each fraction of the labels, paired over the seeds."""
    methods = {str(name): table(method) for name, method in table(found.get("methods")).items()}
    mine = next((name for name in methods if name.startswith("medtex")), None)
    sentences = []
    for name, method in methods.items():
        if mine is None or name.startswith("medtex"):
            continue
        said = []
        ours, theirs = (by_fraction(m.get("points"), "auc_referable") for m in (methods[mine], method))
        for fraction in sorted(set(ours) & set(theirs)):
            pairs = [ours[fraction][s] - theirs[fraction][s] for s in ours[fraction] if s in theirs[fraction]]
            if pairs:
                reach = f" ({min(pairs):+.3f} to {max(pairs):+.3f})" if len(pairs) > 1 else ""
                said.append(f"{np.mean(pairs):+.3f} at {percent(fraction)}{reach}")
        if said:
            title = f"{methods[mine].get('title') or mine} minus {method.get('title') or name}"
            sentences.append(f"AUC with fewer labels, {title}, paired over the seeds: {'; '.join(said)}.")
    return sentences


def shown(value: Figure, places: int = 2) -> str:
    """0.78 (0.73 to 0.83)."""
    interval = f" ({value.low:.{places}f} to {value.high:.{places}f})" if value.low is not None else ""
    return f"{value.value:.{places}f}{interval}"


def ours_of(part: Facts) -> dict[str, Figure]:
    """The figures of our own row."""
    return next((row.figures for row in rows_of(part) if row.kind == "ours"), {})


def numbers_of(value: Any) -> list[float]:
    """The finite numbers of a JSON list."""
    return [float(v) for v in listed(value) if is_number(v)]


def percents(value: Figure) -> str:
    """93 % (88 % to 98 %)."""
    interval = f" ({percent(value.low)} to {percent(value.high)})" if value.low is not None and value.high else ""
    return percent(value.value) + interval


def _all_of(count: int) -> str:
    return f"each of the {count} others" if count > 1 else "the other"
