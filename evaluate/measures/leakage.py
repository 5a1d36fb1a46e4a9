"""Does a mask contain the answer by itself: what a model that draws its own mask may do instead of explaining.

An explainer trained with its classifier can write the answer into the shape of the mask (Jethani et al., "Have we
learned to explain?", AISTATS 2021), and the classifier then does not need what the mask shows. Two questions, two
measures:

`leakage` asks what CAN be read. A small classifier guesses the label from the mask alone. Some of that is honest: a
sick eye has more to show, so the area predicts the label, even of a lesion mask drawn by hand. The control therefore
has the same area and values to the last pixel, arranged as in the mask of another photograph drawn at random: area
without own shape or place. What is readable beyond it is place and shape. That again need not be a code, since
lesions have their places; a map never trained with the student (`places`, for example Grad-CAM of the teacher), given
the same values, shows how much place predicts honestly.

`obeys_mask` asks what IS read: the classifier gets the detail of one photograph through the mask of another. If its
answer follows the mask, the mask carries a code that is in use, whatever its form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medtex_edge.evaluate.masked_predictor import PredictMasked
from medtex_edge.evaluate.measures.faithfulness import (
    STRIDE,
    Bools,
    Floats,
    Images,
    Ints,
    Scores,
    order,
    predict_in_batches,
    to_stride,
)
from medtex_edge.train.metrics.intervals import stratified_interval
from medtex_edge.train.metrics.ranks import rank_auc

GRID = 7  # cells a side that a mask is pooled to
FOLDS = 5
REPEATS = 5
LEAST = 2 * FOLDS  # photographs of either class, below which nothing can be concluded


@dataclass(frozen=True)
class Leakage:
    """AUC, in 0..1, of the label as read from the mask alone and from its controls, and whether they differ."""

    auc_map: float
    auc_shuffled: float  # the same values scattered over the same pixels: amount alone
    auc_area_matched: float  # the same values arranged as another photograph's mask: area alone
    auc_place_matched: float | None  # the same values arranged as another method's map of the same photograph
    difference: float  # of auc_map to auc_area_matched
    interval_difference: tuple[float, float]  # 95 %, bootstrap over photographs
    readable: bool  # more than from the area: the whole interval lies above 0
    n: int
    positives: int


def leakage(
    masks: Floats, truth: Bools, *, places: Floats | None = None, repeats: int = REPEATS, seed: int = 0
) -> Leakage | None:
    """How well `truth` (N,) can be read from masks (N, h, w) in 0..1 alone; None with too few of either class.

    `truth` is whether a photograph is referable, by its label or by the teacher. `places`, maps (N, h', w') in any
    range, are of the same photographs by a method that was not trained with the student. The classifier is the mean
    of a logistic regression and of extremely randomised trees on the mask pooled to `GRID` x `GRID` cells and on its
    area, values, position and edges; answers are out of fold, repeated with new folds and new controls.

    Not distinguishable is no proof of absence: read the interval's width with it.
    """
    positives = int(truth.sum())
    if min(positives, len(truth) - positives) < LEAST:
        return None
    rng = np.random.default_rng(seed)
    read: dict[str, list[Scores]] = {"map": [], "shuffled": [], "area": [], "place": []}
    for repeat in range(repeats):
        variants = {"map": masks, "shuffled": scattered(masks, rng), "area": arranged(masks, _others(masks, rng))}
        if places is not None:
            variants["place"] = arranged(masks, to_stride(places, STRIDE * masks.shape[1]))
        for name, variant in variants.items():
            read[name].append(_guesses(features(variant), truth, seed=seed + repeat))
    auc = {name: float(np.mean([roc_auc_score(truth, s) for s in scores])) for name, scores in read.items() if scores}
    low, high = _difference_interval(read["map"], read["area"], truth, rng)
    return Leakage(
        auc_map=auc["map"],
        auc_shuffled=auc["shuffled"],
        auc_area_matched=auc["area"],
        auc_place_matched=auc.get("place"),
        difference=auc["map"] - auc["area"],
        interval_difference=(low, high),
        readable=low > 0,
        n=len(truth),
        positives=positives,
    )


def obeys_mask(
    predict: PredictMasked, images: Images, masks: Floats, truth: Bools, classes: tuple[int, ...], *, repeats: int = 4
) -> dict[str, Any] | None:
    """The AUC, in 0..1, of the mask's owner's `truth` (N,) by the answer to ANOTHER photograph's detail under it.

    Each photograph (N, S, S, 3) gets the mask of a random one, `repeats` times; `predict` is the student. 0.5: the
    answer does not follow the mask. {"value", "interval", "n"}, the interval a 95 % bootstrap over the masks' owners;
    None with too few of either class. `auc_picture` is the same for the truth of the photograph that was shown: what
    the answer should follow.
    """
    if min(truth.sum(), (~truth).sum()) < LEAST:
        return None
    rng = np.random.default_rng(0)
    scores, shown = [], []
    for _ in range(repeats):
        other = _derangement(len(images), rng)
        scores.append(predict_in_batches(predict, images[other], masks)[:, list(classes)].sum(axis=1))
        shown.append(truth[other])
    values = [rank_auc(score, truth) for score in scores]
    interval = stratified_interval(
        lambda chosen: float(np.mean([rank_auc(s[chosen], truth[chosen]) for s in scores])), truth, rng
    )
    return {
        "value": float(np.mean(values)),
        "interval": list(interval),
        "n": len(truth),
        "auc_picture": float(np.mean([rank_auc(score, seen) for score, seen in zip(scores, shown, strict=True)])),
    }


def scattered(masks: Floats, rng: np.random.Generator) -> Floats:
    """Every mask's own values (N, h, w) at random pixels: the amount stays, place and shape go."""
    return rng.permuted(masks.reshape(len(masks), -1), axis=1).reshape(masks.shape)


def arranged(masks: Floats, like: Floats) -> Floats:
    """Every mask's own values (N, h, w) in the order of salience of another map (N, h, w): its k-th largest value goes
    where `like` is k-th largest. The area stays, and every value; place and shape are those of `like`."""
    values = -np.sort(-masks.reshape(len(masks), -1), axis=1)
    ranks = order(like).reshape(len(like), -1)
    return np.take_along_axis(values, ranks, axis=1).reshape(masks.shape)


def features(masks: Floats) -> Scores:
    """The features of masks that a small classifier reads (N, h, w): (N, F).

    Means of `GRID` x `GRID` cells; of the whole: mean, share above a half, deviation, five quantiles; position: centre
    of mass, spread and mean distance from the middle; edges: total variation across and down.
    """
    n, height, width = masks.shape
    rows, columns = (np.array_split(np.arange(side), min(GRID, side)) for side in (height, width))
    cells = [masks[:, r[0] : r[-1] + 1, c[0] : c[-1] + 1].mean(axis=(1, 2)) for r in rows for c in columns]
    flat = masks.reshape(n, -1).astype(np.float64)
    y, x = (axis.ravel() / side - 0.5 for axis, side in zip(np.mgrid[:height, :width], (height, width), strict=True))
    weights = flat / np.maximum(flat.sum(axis=1, keepdims=True), 1e-9)
    down, right = weights @ y, weights @ x
    spread = np.sqrt(np.maximum(weights @ (y**2 + x**2) - down**2 - right**2, 0))
    return np.column_stack(
        [
            *cells, flat.mean(axis=1), (flat > 0.5).mean(axis=1), flat.std(axis=1),
            *np.quantile(flat, [0.1, 0.25, 0.5, 0.75, 0.9], axis=1),
            down, right, spread, weights @ np.hypot(y, x),
            np.abs(np.diff(masks, axis=1)).mean(axis=(1, 2)), np.abs(np.diff(masks, axis=2)).mean(axis=(1, 2)),
        ]
    )  # fmt: skip


def _guesses(x: Scores, truth: Bools, *, seed: int) -> Scores:
    """Out-of-fold probabilities (N,) of `truth` from features (N, F)."""
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    trees = ExtraTreesClassifier(50, min_samples_leaf=2, random_state=seed)
    reader = VotingClassifier([("linear", linear), ("trees", trees)], voting="soft")
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    return np.asarray(cross_val_predict(reader, x, truth, cv=folds, method="predict_proba")[:, 1], np.float64)


def _others(masks: Floats, rng: np.random.Generator) -> Floats:
    """For every mask another photograph's, whatever its label."""
    return masks[_derangement(len(masks), rng)]


def _derangement(count: int, rng: np.random.Generator) -> Ints:
    """(count,): a random permutation that leaves nothing in place: a single random cycle."""
    cycle = rng.permutation(count)
    other = np.empty(count, np.int64)
    other[cycle] = np.roll(cycle, 1)
    return other


def _difference_interval(
    a: list[Scores], b: list[Scores], truth: Bools, rng: np.random.Generator
) -> tuple[float, float]:
    def difference(chosen: Ints) -> float:
        pairs = [
            rank_auc(p[chosen], truth[chosen]) - rank_auc(q[chosen], truth[chosen]) for p, q in zip(a, b, strict=True)
        ]
        return float(np.mean(pairs))

    return stratified_interval(difference, truth, rng)
