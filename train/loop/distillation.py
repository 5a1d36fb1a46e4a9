"""The training steps of each method: what one batch contributes to each term of the objective.

    medtex      the student under random masks next to the explainer's evidence, then both together (this project)
    masked      its student alone, which evaluates masks (the evaluator of REAL-X, Jethani et al., AISTATS 2021)
    paper       student and explainer together from the start, unseen pixels at the mean colour (arXiv 2008.02593)
    hinton      the teacher's softened answer and the labels (Hinton et al. 2015, arXiv 1503.02531)
    vid         the teacher's features and the labels, its answer where there is none (Ahn et al., CVPR 2019)
    supervised  the labels alone

All but `masked` take the same number of steps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medtex_edge.train.compute.device import Compute
from medtex_edge.train.compute.processes import count_in_last
from medtex_edge.train.config import TrainConfig
from medtex_edge.train.data.augment import Augment
from medtex_edge.train.data.cache import Photos
from medtex_edge.train.loop.fit import Batch, Phase, batches
from medtex_edge.train.loop.predict import BATCH
from medtex_edge.train.losses.labels import LabelLoss
from medtex_edge.train.losses.masks import random_masks
from medtex_edge.train.losses.objective import LLocal, LMid, beyond_budget, l_out, l_soft, total_variation
from medtex_edge.train.models.medtex import MedTex
from medtex_edge.train.models.teacher import Answer, Teacher, to_size


class Distillation(nn.Module):
    """All that is trained: student, explainer, and what L_mid and L_local learn (which stays behind in training)."""

    def __init__(self, model: MedTex, teacher_channels: tuple[int, ...], local: LLocal | None = None) -> None:
        super().__init__()
        self.model, self.local = model, local
        student = model.student.feature_channels
        count = min(len(student), len(teacher_channels))
        self.mid = LMid(student[-count:], teacher_channels[-count:]) if count else None
        self.pairs = count


class TrainingSteps:
    """The phases of one method with one teacher."""

    def __init__(
        self,
        config: TrainConfig,
        teacher: Teacher,
        augment: Augment,
        val: Photos,
        compute: Compute,
        label: LabelLoss | None = None,
    ) -> None:
        self.label = label or LabelLoss()
        self.config, self.teacher, self.augment, self.val, self.compute = (
            config,
            teacher,
            augment,
            val,
            compute,
        )
        with torch.no_grad():
            self._val_answers = [teacher.answer(b.for_teacher).probabilities for b in batches(val, BATCH, compute)]

    def phases(self) -> list[Phase]:
        """In the method's order. Student and explainer first learn side by side from one answer of the teacher; the
        student under random masks, so that it can evaluate any mask. Neither depends on the other."""
        c = self.config
        if c.method == "masked":
            return [Phase("masked student", c.epochs, self._student_groups, self._masked_step, self._validate_masked)]
        every = c.epochs + c.joint_epochs
        if c.method == "paper":
            return [Phase("paper", every, self._paper_groups, self._paper_step, self._validate_joint)]
        if c.method != "medtex":
            return [Phase(c.method, every, self._student_groups, self._plain_step, self._validate_plain)]
        return [
            Phase("apart", c.epochs, self._apart_groups, self._apart_step, self._validate_apart),
            Phase(
                "joint", c.joint_epochs, self._joint_groups, self._joint_step, self._validate_joint, self._open_masks
            ),
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
        return {**self._terms(d, logits, features, answer, batch), **self._price(m, m)}

    def _masked_step(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        d = _distillation(module)
        x, answer = self._views(d, batch)
        return self._under_random_masks(d, x, answer, batch)

    def _apart_step(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        d = _distillation(module)
        x, answer = self._views(d, batch)
        terms = self._under_random_masks(d, x, answer, batch)
        return {**terms, **self._local(d, d.model.explainer.evidence(x), answer)} if d.local is not None else terms

    def _under_random_masks(self, d: Distillation, x: Tensor, answer: Answer, batch: Batch) -> dict[str, Tensor]:
        m = random_masks(len(x), d.model.grid, device=x.device)
        logits, features = d.model.student.with_features(d.model.masked(x, m))
        return self._terms(d, logits, features, answer, batch)

    def _joint_step(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        d = _distillation(module)
        x, answer = self._views(d, batch)
        evidence = d.model.explainer.evidence(x).float()
        m = torch.sigmoid(d.model.explainer.logits(evidence))
        # Some of the batch keeps the student honest: its answer on any mask is about what is visible, not about the
        # mask's shape.
        explained = len(x) - count_in_last(self.config.random_fraction, len(x))
        masks = torch.cat([m[:explained], random_masks(len(x), d.model.grid, device=x.device)[explained:]])
        logits, features = d.model.student.with_features(d.model.masked(x, masks))
        return {
            **self._terms(d, logits, features, answer, batch),
            **self._local(d, evidence, answer),
            # The budget moves the level alone: a severe photograph may hold evidence all over.
            **self._price(m, torch.sigmoid(d.model.explainer.logits(evidence.detach()))),
        }

    def _local(self, d: Distillation, evidence: Tensor, answer: Answer) -> dict[str, Tensor]:
        if d.local is None:
            return {}
        return {"local": self.config.weights.local * d.local(evidence, answer.probabilities)}

    def _price(self, m: Tensor, levelled: Tensor) -> dict[str, Tensor]:
        c, w = self.config, self.config.weights
        terms = {"budget": w.budget * beyond_budget(levelled, c.budget), "tv": w.tv * total_variation(m)}
        return {name: value for name, value in terms.items() if getattr(w, name)}

    def _views(self, d: Distillation, batch: Batch) -> tuple[Tensor, Answer]:
        """One augmented view for both: the student normalised (N, 3, S, S), the teacher at its own size."""
        # Geometry and colour in fp32: bf16 has 8 bits of mantissa, as many as a pixel.
        with torch.autocast(batch.images.device.type, enabled=False):
            if self.config.method == "supervised":
                view = self.augment(batch.images)
                return d.model.normalise(to_size(view, d.model.size)), Answer(view.new_zeros(len(view), 0), [])
            view, teacher_view = self.augment.both(batch.images, batch.for_teacher)
            answer = self.teacher.answer(teacher_view)
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
            terms["label"] = w.label * self.label(batch.labels, logits)
        return terms

    # -- what is trained at which rate

    def _student_groups(self, module: nn.Module) -> list[tuple[list[nn.Parameter], float]]:
        return [(_student_parameters(_distillation(module)), self.config.lr)]

    def _apart_groups(self, module: nn.Module) -> list[tuple[list[nn.Parameter], float]]:
        d = _distillation(module)
        # Without evidence to gather, the explainer has nothing to learn by itself.
        return [*self._student_groups(d), *(self._explainer_rates(d, 1.0) if d.local is not None else [])]

    def _paper_groups(self, module: nn.Module) -> list[tuple[list[nn.Parameter], float]]:
        return [*self._student_groups(module), *self._explainer_rates(_distillation(module), 1.0)]

    def _joint_groups(self, module: nn.Module) -> list[tuple[list[nn.Parameter], float]]:
        d, c = _distillation(module), self.config
        return [
            (_student_parameters(d), c.joint_lr),
            *self._explainer_rates(d, c.settled if d.local is not None else 1.0),
        ]

    def _explainer_rates(self, d: Distillation, factor: float) -> list[tuple[list[nn.Parameter], float]]:
        c, explainer = self.config, d.model.explainer
        local = list(d.local.parameters()) if d.local is not None else []
        return [
            (list(explainer.encoder.parameters()), factor * c.encoder_lr),
            (list(explainer.decoder.parameters()) + local, factor * c.head_lr),
            # Two numbers, on which the area of every mask hangs: they must follow at once.
            ([explainer.log_scale, explainer.shift], c.level_lr),
        ]

    @torch.no_grad()
    def _open_masks(self, module: nn.Module) -> None:
        """Phase two starts with masks that open about the budget, whatever scale the evidence has."""
        d = _distillation(module)
        explainer = d.model.explainer.eval()
        found = []
        for batch in batches(self.val, BATCH, self.compute):
            x = d.model.normalise(to_size(batch.images, d.model.size))
            with self.compute.autocast():
                found.append(explainer.evidence(x).float())
        explainer.set_threshold_for_area(torch.cat(found), self.config.budget)

    # -- validation: the distance to the teacher's answer, so that measures by label stay unbiased; methods that learn
    # from labels alone are validated by labels

    @torch.no_grad()
    def _validate_plain(self, module: nn.Module) -> dict[str, float]:
        losses, d = [], _distillation(module)
        for batch, p in zip(batches(self.val, BATCH, self.compute), self._val_answers, strict=True):
            x = d.model.normalise(to_size(batch.images, d.model.size))
            logits = self._student(d, x)
            loss = self.label(batch.labels, logits) if not self.config.weights.out else l_out(p, logits)
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
    def _validate_apart(self, module: nn.Module) -> dict[str, float]:
        d, found = _distillation(module), self._validate_masked(module)
        if d.local is None:
            return found
        losses = []
        for batch, p in zip(batches(self.val, BATCH, self.compute), self._val_answers, strict=True):
            x = d.model.normalise(to_size(batch.images, d.model.size))
            with self.compute.autocast():
                evidence = d.model.explainer.evidence(x)
            losses.append((float(d.local(evidence, p)), len(x)))
        local = _mean(losses)
        return {**found, "val_local": local, "val_loss": found["val_loss"] + self.config.weights.local * local}

    @torch.no_grad()
    def _validate_joint(self, module: nn.Module) -> dict[str, float]:
        d, w = _distillation(module), self.config.weights
        out, size, cost = [], [], []
        for batch, p in zip(batches(self.val, BATCH, self.compute), self._val_answers, strict=True):
            x = d.model.normalise(to_size(batch.images, d.model.size))
            with self.compute.autocast():
                evidence = d.model.explainer.evidence(x).float()
            m = torch.sigmoid(d.model.explainer.logits(evidence))
            out.append((float(l_out(p, self._student(d, d.model.masked(x, m)))), len(x)))
            size.append((float(m.mean()), len(x)))
            penalty = w.budget * beyond_budget(m, self.config.budget) + w.tv * total_variation(m)
            local = w.local * d.local(evidence, p) if d.local is not None else 0.0
            cost.append((float(penalty + local), len(x)))
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


def _student_parameters(d: Distillation) -> list[nn.Parameter]:
    """The student's parameters, and those by which its features are compared with the teacher's."""
    return [*d.model.student.parameters(), *(d.mid.parameters() if d.mid is not None else [])]


def _mean(pairs: list[tuple[float, int]]) -> float:
    return sum(value * count for value, count in pairs) / sum(count for _, count in pairs)
