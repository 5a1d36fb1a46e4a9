"""The project's targets for its method and the measured values: means over the seeds, nothing typed in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

ByFraction = dict[float, dict[int, float]]  # {fraction of the labels: {seed: AUC}}
MapKey = tuple[str, str, str]  # kind (ours; rival, a baseline; control), name of the method, of which model
LESS_IS_BETTER = {"deletion", "deletion_referable"}
CURVE_SIZE = 160  # pixels, of the short trainings
SLIM_LOSS, SLIM_SHARE, SHARE, EXPLAINER_SHARE = 0.03, 0.15, 0.60, 0.60
PIXEL_AUC, POINTING, ABOVE_CONTROLS = 0.75, 0.90, 0.12
FIDELITY, AREA = 0.90, 0.25
MAP_TIME = 1.7  # of class and map together, over the class alone
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # two-sided, for n values
RETINAMNIST_AUC, RETINAMNIST_ACCURACY = 0.750, 0.531  # Google AutoML Vision, Yang et al. 2023 (MedMNIST v2)


@dataclass(frozen=True)
class Claim:
    """One target; `met` is None where nothing was measured."""

    target: str
    measured: str
    met: bool | None


@dataclass(frozen=True)
class Best:
    """A map by one measure: in each seed the value at the layer that does best there."""

    values: dict[int, float]
    layers: dict[int, str]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return float(np.mean(list(self.values.values())))

    @property
    def where(self) -> str:
        """The layer, or those of the seeds in order where they differ; empty for maps that have none."""
        layers = list(self.layers.values())
        return layers[0] if len(set(layers)) == 1 else ", ".join(layers)


def explained(evaluations: Sequence[Any]) -> dict[MapKey, dict[str, dict[int, dict[str, float]]]]:
    """{map: {measure: {seed: {layer: value}}}} of all evaluations.

    A layer's costly measures are taken in the seeds in which it promised most, so not each layer has every seed.
    """
    found: dict[MapKey, dict[str, dict[int, dict[str, float]]]] = {}
    for seed, evaluation in enumerate(evaluations):
        for part in ("lesions", "explanation"):
            for row in (evaluation.get(part) or {}).get("rows", []):
                measures = found.setdefault((row["kind"], row["name"], row["of"]), {})
                for measure, score in row.get("measures", {}).items():
                    if score and score.get("value") is not None:
                        measures.setdefault(measure, {}).setdefault(seed, {})[row["layer"]] = score["value"]
    return found


def best_layer(measures: dict[str, dict[int, dict[str, float]]], measure: str) -> Best | None:
    """Each seed at the layer that is best there: seeds differ by more than layers do, so one layer's mean over
    the seeds that happen to have it would compare seeds."""
    choose = min if measure in LESS_IS_BETTER else max
    layers = {seed: choose(found, key=lambda layer: found[layer]) for seed, found in measures.get(measure, {}).items()}
    return Best({s: measures[measure][s][layer] for s, layer in layers.items()}, layers) if layers else None


def paired(differences: Sequence[float]) -> str:
    """Mean and 95 % interval by Student's t."""
    n = len(differences)
    if not n:
        return "-"
    middle = float(np.mean(differences))
    if n not in T_95:
        return f"{middle:+.3f} (n = {n})"
    reach = T_95[n] * float(np.std(differences, ddof=1)) / math.sqrt(n)
    return f"{middle:+.3f} ({middle - reach:+.3f} to {middle + reach:+.3f})"


def claims(runs: dict[str, Any], evaluations: Sequence[Any], seeds: int) -> list[Claim]:
    """All targets in the order of the page."""
    return [
        *_student(runs, seeds),
        *_labels(runs, seeds),
        *_curve(runs.get("curve")),
        *_cost(evaluations, runs.get("evaluation-slim")),
        *_maps(evaluations),
        *_masks(evaluations),
        *_retinamnist(runs.get("retinamnist")),
    ]


def aucs(runs: dict[str, Any], name: str, seeds: int, part: str = "student") -> dict[int, float]:
    """{seed: AUC of referable} of the trainings of that name that are there."""
    return {s: runs[f"{name}-{s}"][part]["auc_referable"] for s in range(seeds) if f"{name}-{s}" in runs}


def over(values: Iterable[Any], digits: int = 3) -> str:
    """The mean and, of several, each; "-" of none."""
    found = [float(v) for v in values if v is not None]
    if not found:
        return "-"
    each = ", ".join(f"{v:.{digits}f}" for v in found)
    return f"{np.mean(found):.{digits}f} ({each})" if len(found) > 1 else each


def _student(runs: dict[str, Any], seeds: int) -> list[Claim]:
    ours = aucs(runs, "medtex", seeds)
    found = []
    for title, baseline in (
        ("the teacher's", aucs(runs, "teacher", seeds, "teacher")),
        ("Hinton distillation's", aucs(runs, "hinton", seeds)),
        ("the supervised student's", aucs(runs, "supervised", seeds)),
    ):
        both = sorted(ours.keys() & baseline.keys())
        if both:
            a, b = (float(np.mean([of[s] for s in both])) for of in (ours, baseline))
            met = a >= b if title == "the teacher's" else a > b
            word = "not below" if title == "the teacher's" else "above"
            found.append(Claim(f"student's AUC {word} {title}", f"{a:.3f} against {b:.3f} ({len(both)} seeds)", met))
    slim = aucs(runs, "slim", seeds)
    if slim and ours:
        a, b = float(np.mean(list(slim.values()))), float(np.mean(list(ours.values())))
        found.append(Claim(f"slim student within {SLIM_LOSS}", f"{a:.3f} against {b:.3f}", b - a <= SLIM_LOSS))
    return found


def with_fewer_labels(runs: dict[str, Any], seeds: int) -> dict[float, dict[int, float]]:
    """{fraction of the labels: {seed: AUC}} of the supervised student in as many steps as ours, 1.0 included."""
    found = by_fraction(runs.get("labels")).get("supervised", {})
    whole = aucs(runs, "supervised", seeds)
    return {**found, 1.0: whole} if found and whole else {}


def by_fraction(curve: Any) -> dict[str, dict[float, dict[int, float]]]:
    """{line of a curve: {fraction: {seed: AUC}}}."""
    return {
        line: {f: {p["seed"]: p["auc_referable"] for p in found["points"] if p["fraction"] == f} for f in fractions}
        for line, found in ((curve or {}).get("methods") or {}).items()
        for fractions in (curve["fractions"],)
    }


def _labels(runs: dict[str, Any], seeds: int) -> list[Claim]:
    """Ours uses no label: it is one student, whatever the fraction of labels."""
    supervised, ours = with_fewer_labels(runs, seeds), aucs(runs, "medtex", seeds)
    if not supervised or not ours:
        return []
    target = "above supervised at every fraction of the labels, in as many steps, paired"
    return [_at_every_fraction(target, dict.fromkeys(supervised, ours), supervised)]


def _curve(curve: Any) -> list[Claim]:
    """The same for short trainings. Distillation also uses the photographs without labels."""
    values = by_fraction(curve)
    ours = next((values[line] for line in ("medtex+unlabelled", "masked+unlabelled") if line in values), None)
    if ours is None or "supervised" not in values:
        return []
    target = f"the same in {curve.get('steps', '?')} steps at {CURVE_SIZE} px, ours without its explainer"
    return [_at_every_fraction(target, ours, values["supervised"])]


def _at_every_fraction(
    target: str, ours: dict[float, dict[int, float]], theirs: dict[float, dict[int, float]]
) -> Claim:
    apart = {f: [of[s] - theirs[f][s] for s in of if s in theirs.get(f, {})] for f, of in ours.items()}
    text = "; ".join(f"{f:.0%}: {paired(differences)}" for f, differences in apart.items())
    return Claim(target, text, all(differences and np.mean(differences) > 0 for differences in apart.values()))


def _cost(evaluations: Sequence[Any], slim: Any) -> list[Claim]:
    cost = next((e["cost"] for e in evaluations if e.get("cost")), None)
    if cost is None:
        return []
    found = []
    share = cost.get("student_over_teacher")
    if share is not None:
        found.append(
            Claim(f"student at most {SHARE:.0%} of the teacher's multiply-adds", f"{share:.0%}", share <= SHARE)
        )
    small = ((slim or {}).get("cost") or {}).get("student_over_teacher")
    if small is not None:
        found.append(Claim(f"slim student at most {SLIM_SHARE:.0%}", f"{small:.0%}", small <= SLIM_SHARE))
    part = cost["explainer_over_student"]
    found.append(
        Claim(f"explainer at most {EXPLAINER_SHARE:.0%} of the student", f"{part:.0%}", part <= EXPLAINER_SHARE)
    )
    timed, after = (
        [e["cost"][key]["ratio"] for e in evaluations if (e.get("cost") or {}).get(key)]
        for key in ("onnxruntime", "gradcam_torch")
    )
    if timed:
        text = over(timed, 2) + (f"; Grad-CAM in PyTorch {over(after, 2)}" if after else "")
        target = f"class and map at most {MAP_TIME} times the time of the class alone, in ONNX Runtime"
        found.append(Claim(target, text, float(np.mean(timed)) <= MAP_TIME))
    return found


def _maps(evaluations: Sequence[Any]) -> list[Claim]:
    scores = explained(evaluations)
    ours = next((measures for (kind, _, _), measures in scores.items() if kind == "ours"), None)
    if ours is None:
        return []
    found = []
    for measure, least in (("pixel_auc", PIXEL_AUC), ("pointing", POINTING)):
        mine = best_layer(ours, measure)
        if mine is not None:
            found.append(Claim(f"{_title(measure)} at least {least:.2f}", f"{mine.mean:.3f}", mine.mean >= least))
    for measure in ("pixel_auc", "pointing", "deletion_referable", "insertion_referable", "deletion", "insertion"):
        found += _against_baselines(measure, best_layer(ours, measure), scores)
    mine = best_layer(ours, "pixel_auc")
    for name in ("mean_map", "other_photograph"):
        control = best_layer(scores.get(("control", name, ""), {}), "pixel_auc")
        if mine is not None and control is not None:
            gap = mine.mean - control.mean
            target = f"pixel AUC {ABOVE_CONTROLS} above the {_title(name)}"
            found.append(Claim(target, f"{gap:.3f} (control {control.mean:.3f})", gap >= ABOVE_CONTROLS))
    return found


def _against_baselines(measure: str, mine: Best | None, scores: dict[MapKey, Any]) -> list[Claim]:
    """Ours against the baseline that is ahead of us by most, or behind by least, seed by seed."""
    less = measure in LESS_IS_BETTER
    baselines = []
    for (kind, name, of), measures in scores.items():
        theirs = best_layer(measures, measure) if kind == "rival" else None
        if mine is not None and theirs is not None and (both := sorted(mine.values.keys() & theirs.values.keys())):
            ahead = [(mine.values[s] - theirs.values[s]) * (-1 if less else 1) for s in both]
            baselines.append((float(np.mean(ahead)), f"{name} of the {of}" + f" ({theirs.where})" * bool(theirs.where),
                           theirs, both))  # fmt: skip
    if mine is None or not baselines:
        return []
    ahead_by, name, theirs, both = min(baselines, key=lambda baseline: baseline[0])
    apart = paired([mine.values[s] - theirs.values[s] for s in both])
    text = f"{mine.mean:.3f}; {theirs.mean:.3f} {name}; paired {apart}"
    return [Claim(f"{_title(measure)} {'below' if less else 'above'} every baseline map", text, ahead_by > 0)]


def _masks(evaluations: Sequence[Any]) -> list[Claim]:
    scores = explained(evaluations)
    ours = next((measures for (kind, _, _), measures in scores.items() if kind == "ours"), {})
    kept, area = best_layer(ours, "fidelity_verdict_referable"), best_layer(ours, "area_referable")
    found = []
    if kept is not None and area is not None:
        target = (
            f"verdict kept from the mask on at least {FIDELITY:.0%} of referable photographs, open at most {AREA:.0%}"
        )
        found.append(Claim(target, f"{kept.mean:.3f} at {area.mean:.3f}", kept.mean >= FIDELITY and area.mean <= AREA))
    leaks = [(e.get("explanation") or {}).get("leakage") or {} for e in evaluations]
    differences = [leak["difference"] for leak in leaks if leak.get("difference") is not None]
    if differences:
        readable = sum(bool(leak.get("readable")) for leak in leaks)
        text = (
            f"{_signed(differences)} AUC more than from the control; readable in {readable} of {len(differences)} seeds"
        )
        found.append(Claim("label not readable from the mask beyond the area-matched control", text, readable == 0))
    return found


def _retinamnist(found: Any) -> list[Claim]:
    test = (found or {}).get("mean", {}).get("test")
    if test is None:
        return []
    auc, accuracy = (test["student"][key]["mean"] for key in ("auc_macro", "accuracy"))
    target = f"RetinaMNIST test: AUC above {RETINAMNIST_AUC}, accuracy above {RETINAMNIST_ACCURACY}"
    met = auc > RETINAMNIST_AUC and accuracy > RETINAMNIST_ACCURACY
    return [Claim(target, f"{auc:.3f}, {accuracy:.3f}", met)]


def _title(name: str) -> str:
    return name.replace("pixel_auc", "pixel AUC").replace("_", " ")


def _signed(values: Iterable[float]) -> str:
    return ", ".join(f"{value:+.3f}" for value in values)
