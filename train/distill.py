"""The steps of the distillation and of its rivals: what one batch contributes to each term of the objective.

    medtex      the student under random masks, the explainer against it, then both together (this project)
    masked      its first phase alone: judges masks (the evaluator of REAL-X, Jethani et al., AISTATS 2021)
    paper       student and explainer together from the start, unseen pixels at the mean colour (arXiv 2008.02593)
    hinton      the teacher's softened answer and the labels (Hinton et al. 2015, arXiv 1503.02531)
    vid         the teacher's features and the labels, its answer where there is none (Ahn et al., CVPR 2019)
    supervised  the labels alone

All but `masked` take the same number of steps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medtex_edge.train.cache import Photos
from medtex_edge.train.config import TrainConfig
from medtex_edge.train.device import Compute
from medtex_edge.train.evaluate import BATCH
from medtex_edge.train.fit import Batch, Phase, batches
from medtex_edge.train.masks import random_masks, ranked
from medtex_edge.train.medtex import MedTex
from medtex_edge.train.objective import LMid, area, beyond_budget, l_label, l_out, l_soft, total_variation
from medtex_edge.train.teacher import Answer, Teacher, to_size


class Distillation(nn.Module):
    """All that is trained: student, explainer, and the regressors of L_mid (which stay behind in training)."""

    def __init__(self, model: MedTex, teacher_channels: tuple[int, ...]) -> None:
        super().__init__()
        self.model = model
        student = model.student.feature_channels
        count = min(len(student), len(teacher_channels))
        self.mid = LMid(student[-count:], teacher_channels[-count:]) if count else None
        self.pairs = count


class Steps:
    """The phases of a method on one teacher; `notes` says which terms had to be switched off."""

    def __init__(
        self, config: TrainConfig, teacher: Teacher, augment: nn.Module, val: Photos, compute: Compute
    ) -> None:
        self.config, self.teacher, self.augment, self.val, self.compute = (
            config,
            teacher,
            augment,
            val,
            compute,
        )
        with torch.no_grad():
            self._val_answers = [teacher.answer(b.images).probabilities for b in batches(val, BATCH, compute)]

    def phases(self) -> list[Phase]:
        """In the method's order: the student under random masks, the explainer against it, then both together."""
        c = self.config
        masked = Phase("masked student", c.epochs, self._student_groups, self._masked_step, self._validate_masked)
        if c.method == "masked":
            return [masked]
        every = c.epochs + c.explainer_epochs + c.joint_epochs
        if c.method == "paper":
            return [Phase("paper", every, self._paper_groups, self._paper_step, self._validate_joint)]
        if c.method != "medtex":
            return [Phase(c.method, every, self._student_groups, self._plain_step, self._validate_plain)]
        return [
            masked,
            Phase("explainer", c.explainer_epochs, self._explainer_groups, self._explainer_step, self._validate_joint),
            Phase("joint", c.joint_epochs, self._joint_groups, self._joint_step, self._validate_joint),
        ]

    # -- one batch

    def _plain_step(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        d = _distillation(module)
        x, answer = self._views(d, batch)
        logits, features = d.model.student.with_features(x)
        return self._terms(d, logits, features, answer, batch)

    def _paper_step(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        d = _distillation(module)
        x, answer = self._views(d, batch)
        m = d.model.masks(x)
        logits, features = d.model.student.with_features(d.model.masked(x, m))
        return {**self._terms(d, logits, features, answer, batch), **self._price(m, batch)}

    def _masked_step(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        d = _distillation(module)
        x, answer = self._views(d, batch)
        m = random_masks(len(x), d.model.grid, device=x.device)
        logits, features = d.model.student.with_features(d.model.masked(x, m))
        return self._terms(d, logits, features, answer, batch)

    def _explainer_step(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        d = _distillation(module)
        # What judges the masks must not move: neither its weights nor the statistics of its batch norms.
        d.model.student.eval()
        x, answer = self._views(d, batch)
        m, seen = self._explained(d, x)
        logits = d.model.student(d.model.masked(x, seen))
        return {"out": l_out(answer.probabilities, logits), **self._price(m, batch)}

    def _joint_step(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        d = _distillation(module)
        x, answer = self._views(d, batch)
        randoms = round(self.config.random_fraction * len(x))
        m, seen = self._explained(d, x[: len(x) - randoms])
        seen = torch.cat([seen, random_masks(randoms, d.model.grid, device=x.device)])
        logits, features = d.model.student.with_features(d.model.masked(x, seen))
        return {**self._terms(d, logits, features, answer, batch), **self._price(m, batch)}

    def _explained(self, d: Distillation, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, S, S) -> m (N, 1, h, w), and what the student sees of it: some as deployed, the rest by rank."""
        logits = d.model.explainer(x).float()
        m = torch.sigmoid(logits)
        soft = round(self.config.soft_fraction * len(x))
        # The soft mask fixes the scale of the values, the ranked one their order.
        return m, torch.cat([m[:soft], ranked(logits[soft:])])

    def _price(self, m: Tensor, batch: Batch) -> dict[str, Tensor]:
        """L_mask. Budget and price tighten over the first part of the phase: at full price from the start the mask
        shuts before it has learnt where to look, since the price's gradient is steady and the answer's is not."""
        c, w = self.config, self.config.weights
        closed = min(batch.progress / c.closing, 1.0)
        terms = {
            "area": w.area * closed * area(m),
            "budget": w.budget * beyond_budget(m, 1.0 - closed * (1.0 - c.budget)),
            "tv": w.tv * total_variation(m),
        }
        return {name: value for name, value in terms.items() if getattr(w, name)}

    def _views(self, d: Distillation, batch: Batch) -> tuple[Tensor, Answer]:
        """One augmented view, seen by both: the student normalised (N, 3, S, S), the teacher as it likes."""
        # Geometry and colour in fp32: bf16 has 8 bits of mantissa, as many as a pixel.
        with torch.autocast(batch.images.device.type, enabled=False):
            view = self.augment(batch.images)
            if self.config.method == "supervised":
                return d.model.normalise(to_size(view, d.model.size)), Answer(view.new_zeros(len(view), 0), [])
            answer = self.teacher.answer(view)
            x = d.model.normalise(to_size(view, d.model.size))
        return x.contiguous(memory_format=torch.channels_last), answer

    def _terms(
        self, d: Distillation, logits: Tensor, features: list[Tensor], answer: Answer, batch: Batch
    ) -> dict[str, Tensor]:
        c, w = self.config, self.config.weights
        terms: dict[str, Tensor] = {}
        if w.out and c.method == "hinton":
            terms["out"] = w.out * l_soft(answer.probabilities, logits, c.hinton_temperature)
        elif w.out:
            terms["out"] = w.out * l_out(answer.probabilities, logits)
        elif c.method == "vid" and bool((unlabelled := batch.labels < 0).any()):
            terms["out"] = w.label * l_out(answer.probabilities[unlabelled], logits[unlabelled])
        if w.mid and d.mid is not None:
            terms["mid"] = w.mid * d.mid(features[-d.pairs :], answer.features[-d.pairs :])
        if w.label:
            terms["label"] = w.label * l_label(batch.labels, logits)
        return terms

    # -- what is trained at which rate

    def _student_groups(self, module: nn.Module) -> list[tuple[list[nn.Parameter], float]]:
        d = _distillation(module)
        mid = list(d.mid.parameters()) if d.mid is not None else []
        return [(list(d.model.student.parameters()) + mid, self.config.lr)]

    def _explainer_groups(self, module: nn.Module) -> list[tuple[list[nn.Parameter], float]]:
        d, c = _distillation(module), self.config
        d.requires_grad_(False)
        d.model.explainer.requires_grad_(True)
        explainer = d.model.explainer
        return [(list(explainer.encoder.parameters()), c.encoder_lr), (list(explainer.decoder.parameters()), c.head_lr)]

    def _paper_groups(self, module: nn.Module) -> list[tuple[list[nn.Parameter], float]]:
        c, explainer = self.config, _distillation(module).model.explainer
        return [
            *self._student_groups(module),
            (list(explainer.encoder.parameters()), c.encoder_lr),
            (list(explainer.decoder.parameters()), c.head_lr),
        ]

    def _joint_groups(self, module: nn.Module) -> list[tuple[list[nn.Parameter], float]]:
        d, c = _distillation(module), self.config
        d.requires_grad_(True)
        mid = list(d.mid.parameters()) if d.mid is not None else []
        explainer = d.model.explainer
        return [
            (list(d.model.student.parameters()) + mid, c.joint_lr),
            (list(explainer.encoder.parameters()), c.encoder_lr),
            (list(explainer.decoder.parameters()), c.head_lr * c.joint_lr / c.lr),
        ]

    # -- validation: the distance to the teacher's answer, so that measures by label stay honest; methods that learn
    # from labels alone have nothing else to be chosen by

    @torch.no_grad()
    def _validate_plain(self, module: nn.Module) -> dict[str, float]:
        losses, d = [], _distillation(module)
        for batch, p in zip(batches(self.val, BATCH, self.compute), self._val_answers, strict=True):
            x = d.model.normalise(to_size(batch.images, d.model.size))
            logits = self._student(d, x)
            loss = l_label(batch.labels, logits) if not self.config.weights.out else l_out(p, logits)
            losses.append((float(loss), len(x)))
        return {"val_loss": _mean(losses)}

    @torch.no_grad()
    def _validate_masked(self, module: nn.Module) -> dict[str, float]:
        d = _distillation(module)
        whole, masked = [], []
        for i, (batch, p) in enumerate(zip(batches(self.val, BATCH, self.compute), self._val_answers, strict=True)):
            x = d.model.normalise(to_size(batch.images, d.model.size))
            m = self._fixed_masks(i, len(x), d.model.grid)
            whole.append((float(l_out(p, self._student(d, x))), len(x)))
            masked.append((float(l_out(p, self._student(d, d.model.masked(x, m)))), len(x)))
        return {
            "val_whole": _mean(whole),
            "val_masked": _mean(masked),
            "val_loss": (_mean(whole) + _mean(masked)) / 2,
        }

    @torch.no_grad()
    def _validate_joint(self, module: nn.Module) -> dict[str, float]:
        d, w = _distillation(module), self.config.weights
        out, size, cost = [], [], []
        for batch, p in zip(batches(self.val, BATCH, self.compute), self._val_answers, strict=True):
            x = d.model.normalise(to_size(batch.images, d.model.size))
            with self.compute.autocast():
                m = d.model.masks(x)
            out.append((float(l_out(p, self._student(d, d.model.masked(x, m)))), len(x)))
            size.append((float(area(m)), len(x)))
            penalty = w.area * area(m) + w.budget * beyond_budget(m, self.config.budget) + w.tv * total_variation(m)
            cost.append((float(penalty), len(x)))
        # The cost counts too: an open mask answers best and explains nothing.
        return {"val_out": _mean(out), "val_area": _mean(size), "val_loss": w.out * _mean(out) + _mean(cost)}

    def _student(self, d: Distillation, x: Tensor) -> Tensor:
        with self.compute.autocast():
            logits: Tensor = d.model.student(x.contiguous(memory_format=torch.channels_last))
        return logits.float()

    def _fixed_masks(self, index: int, count: int, side: int) -> Tensor:
        """The same random masks at every epoch, without touching the generator that the training draws from."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(index)
            return random_masks(count, side, whole=0.0).to(self.compute.device)


def _distillation(module: nn.Module) -> Distillation:
    assert isinstance(module, Distillation)
    return module


def _mean(pairs: list[tuple[float, int]]) -> float:
    return sum(value * count for value, count in pairs) / sum(count for _, count in pairs)
