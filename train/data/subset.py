"""A fraction of the training labels, drawn once per seed, for the less-data curve."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from medtex_edge.train.data.cache import Photos


@dataclass(frozen=True)
class Subset:
    """`fraction` of each class's labelled photographs keep their label; with one seed, smaller subsets lie in larger.

    others: whether the other photographs are used without labels, like those that had none; else they are left out.
    """

    fraction: float
    seed: int
    others: bool = False

    def of(self, photos: Photos) -> Photos:
        """As many photographs as before: the subset is repeated, so that an epoch keeps its number of steps."""
        kept = labelled(photos.labels, self.fraction, self.seed)
        labels = np.full_like(photos.labels, -1)
        labels[kept] = photos.labels[kept]
        if self.others or len(kept) == len(labels):
            return replace(photos, labels=labels)
        count = len(photos.labels)
        index = np.sort(np.tile(kept, -(-count // len(kept)))[:count])
        teacher_images = np.asarray(photos.teacher_images)[index] if photos.teacher_images is not None else None
        keys = tuple(photos.keys[i] for i in index)
        return Photos(np.asarray(photos.images)[index], labels[index], keys, teacher_images)


def labelled(labels: npt.NDArray[np.int64], fraction: float, seed: int) -> npt.NDArray[np.int64]:
    """Indices, sorted, of `fraction` of each class (at least one photograph): nested in `fraction`, drawn by `seed`."""
    kept = []
    for label in np.unique(labels[labels >= 0]):
        # A generator per class, so that a larger class does not change the order of the others.
        members = np.random.default_rng([seed, int(label)]).permutation(np.flatnonzero(labels == label))
        kept.append(members[: max(1, round(fraction * len(members)))])
    return np.sort(np.concatenate(kept))
