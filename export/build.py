"""The export of a run folder into a bundle: graph, precisions, gate, golden vectors, one file; or no file at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medtex_edge.bundle import CARD, EXTRAS, Bundle, Golden, write_bundle
from medtex_edge.contract import Contract
from medtex_edge.errors import BundleError, DataError, ParityError
from medtex_edge.export import parity
from medtex_edge.export.gate import ProofCase, prove_engine, prove_fp16, prove_fp32, prove_int8
from medtex_edge.export.golden_frames import golden_frames
from medtex_edge.export.graph import Deployed, cost
from medtex_edge.export.onnx import to_onnx
from medtex_edge.export.report import report_of
from medtex_edge.export.timing import graph_times
from medtex_edge.files import without_folders
from medtex_edge.progress import ProgressDisplay
from medtex_edge.runtime.backend import onnxruntime
from medtex_edge.runtime.backend.golden_check import bounds
from medtex_edge.train.data.cache import Photos
from medtex_edge.train.models.medtex import MedTex
from medtex_edge.train.run_folder import Run

MAX_PHOTOGRAPHS = 256  # what parity is measured on; more of the same would take minutes and find nothing new
MIN_PHOTOGRAPHS = 64  # training ones are added where the validation split has fewer
_CALIBRATION = 64  # training photographs that int8's ranges are taken from
_MIN_FRAMES = 5  # golden frames that must be left
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ExportResult:
    """The result of an export."""

    path: Path
    contract: Contract
    report: dict[str, Any]
    sizes: dict[str, int]  # member name -> bytes


def build(
    run: Run, out: Path, *, fp16: bool, data: Path | None, command: str, steps: ProgressDisplay, int8: bool = False
) -> ExportResult:
    """Export `run` into the bundle `out`, replacing a file of that name.

    Raises `DataError` (run or photographs), `ParityError` (a precision beyond its bounds), `BackendError` (a model
    that cannot be exported), `StorageError`; `out` is then as it was before. A `ParityError`
    leaves a picture of the worst photographs, `out` with the suffix `.refused.png`.
    """
    with steps.step("trained model") as step:
        model = run.load_model()
        contract = contract_of(run)
        counted = cost(model)
        total = counted.student_multiply_adds + counted.explainer_multiply_adds
        step.note = f"{run.config.student}, {model.size} px, {total / 1e6:.0f} M multiply-adds"
    picture = out.with_suffix(".refused.png")
    case = replace(_photographs(run, model, contract, data, int8, steps), picture=picture)
    with steps.step("fp32 graph") as step:
        full = to_onnx(Deployed(model), model.size)
        step.note = f"{len(full) / 1e6:.1f} MB"
    proofs = {"fp32": prove_fp32(full, case, steps)}
    if fp16 or int8:
        half = prove_fp16(full, case, steps)
        proofs |= {"fp16": half} if fp16 else {}
    if int8:
        proofs["int8"] = prove_int8(full, half, _wider(case, run, model, data, steps), steps)
    proofs = {name: prove_engine(name, proof, case, steps) for name, proof in proofs.items()}
    with steps.step("golden vectors") as step:
        golden = golden_of(model, contract, {name: proof.model for name, proof in proofs.items()})
        step.note = f"{len(golden)} frames, none of a patient"
    with steps.step("bundle") as step:
        models = {name: proof.model for name, proof in proofs.items()}
        report = report_of(run, case, proofs, counted, command, _times(models, contract))
        path = write_bundle(out, contract, models, golden, report, _extras(run.path))
        sizes = {name: member.size for name, member in Bundle.open(path).members.items()}
        picture.unlink(missing_ok=True)  # of an earlier refusal
        step.note = f"{path.stat().st_size / 1e6:.1f} MB, every checksum read back"
    return ExportResult(path, contract, report, sizes)


def contract_of(run: Run) -> Contract:
    """The contract of the run, from its card. Raises `DataError` where the card does not make one."""
    try:
        return Contract(
            name=run.name, classes=run.classes, height=run.size, width=run.size, saliency_height=run.size // 4,
            saliency_width=run.size // 4, referable=run.referable, ordered=run.ordered,
            temperature=run.temperature, operating_point=run.operating_point, created=_now(),
        )  # fmt: skip
    except BundleError as error:
        raise DataError(f"{run.path} cannot be exported: {error.message}") from error


def golden_of(model: MedTex, contract: Contract, models: Mapping[str, bytes]) -> Golden:
    """The golden frames with the fp32 PyTorch model's answers.

    A frame on which a precision is not well within the bounds that devices are checked by is left out: on white
    noise a good model can be chaotic, and would be refused for it. Raises `ParityError` when few are left.
    """
    images = golden_frames(model.size)
    expected = parity.reference(model, images)
    good = np.ones(len(images), bool)
    for name, content in models.items():
        with onnxruntime.open_graph(content, contract, label=name) as backend:
            actual = parity.of_backend(backend, images)
        probability, saliency = bounds(name)
        good &= np.abs(actual[0] - expected[0]).max(axis=1) <= probability / 2
        good &= np.abs(actual[1] - expected[1]).mean(axis=(1, 2)) <= saliency / 2
    if good.sum() < _MIN_FRAMES:
        raise ParityError(
            f"golden vectors: {', '.join(models)} agree with the trained model on {good.sum()} of {len(good)} drawn "
            f"frames (needed {_MIN_FRAMES}); no bundle was written",
            hint=(
                "export without --fp16 and --int8"
                if len(models) > 1
                else "the model answers by chance: train it for longer"
            ),
        )
    return Golden(images[good], expected[0][good], expected[1][good])


def _photographs(
    run: Run, model: MedTex, contract: Contract, data: Path | None, int8: bool, steps: ProgressDisplay
) -> ProofCase:
    with steps.step("validation photographs") as step:
        photos = _split(run, "val", data)
        count = len(photos.images)
        if count == 0:
            raise DataError(
                f"{run.path}: there are no validation photographs to prove the export on",
                hint="name their folder: --data DIR",
            )
        chosen = _evenly(count, MAX_PHOTOGRAPHS)
        images, keys = np.asarray(photos.images[chosen]), [photos.keys[i] for i in chosen]
        step.note = f"{len(chosen)} of {count}" if len(chosen) < count else str(count)
        training = np.zeros((0, *images.shape[1:]), np.uint8)
        if int8 or count < MIN_PHOTOGRAPHS:
            others = _split(run, "train", data)
            more = _evenly(len(others.images), max(0, MIN_PHOTOGRAPHS - count))
            images = np.concatenate([images, others.images[more]])
            keys += [others.keys[i] for i in more]
            step.note += f", and {len(more)} training ones to make up for few" if len(more) else ""
            training = np.asarray(others.images[_calibration(len(others.images)) if int8 else []])
        if int8 and len(training) == 0:
            raise DataError(
                f"{run.path}: there are no training photographs to calibrate int8 on",
                hint="name their folder: --data DIR, or export without --int8",
            )
    with steps.step("answers of the trained model", len(images)) as step:
        expected = parity.reference(model, images, step.tick)
    return ProofCase(contract, images, tuple(keys), expected, validation=len(chosen), training=training)


def _split(run: Run, split: str, data: Path | None) -> Photos:
    """Photographs of "val" or "train"; of others in `data` that come without a val split, every fifth is val."""
    photos = run.photographs(split, data=data)
    if data is None or len((photos if split == "val" else run.photographs("val", data=data)).images):
        return photos
    every = run.photographs("train", data=data)
    chosen = np.arange(len(every.images)) % 5 == 0
    return every.where(chosen if split == "val" else ~chosen)


def _wider(case: ProofCase, run: Run, model: MedTex, data: Path | None, steps: ProgressDisplay) -> ProofCase:
    """The case with training photographs that nothing was calibrated on added to the validation ones.

    Layers are chosen by their parity, several times over: on few photographs, that would be luck.
    """
    photos = _split(run, "train", data)
    left = np.setdiff1d(np.arange(len(photos.images)), _calibration(len(photos.images)))
    chosen = left[_evenly(len(left), max(0, MAX_PHOTOGRAPHS - case.validation))]
    if case.validation + len(chosen) < MIN_PHOTOGRAPHS:
        return case
    more = np.asarray(photos.images[chosen])
    with steps.step("int8: answers of the trained model", len(more)) as step:
        found = parity.reference(model, more, step.tick)
        step.note = f"{len(more)} training photographs that nothing is calibrated on, with the {case.validation}"
    first = slice(case.validation)
    return replace(
        case, images=np.concatenate([case.images[first], more]),
        keys=(*case.keys[first], *(photos.keys[i] for i in chosen)),
        expected=(
            np.concatenate([case.expected[0][first], found[0]]), np.concatenate([case.expected[1][first], found[1]])
        ),
    )  # fmt: skip


def _calibration(count: int) -> Indices:
    """Which of `count` training photographs int8's ranges are taken from."""
    return _evenly(count, _CALIBRATION)


def _evenly(count: int, wanted: int) -> Indices:
    """At most `wanted` of `count` indices, evenly over all of them: photographs are often sorted by class."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(np.int64))


def _extras(folder: Path) -> dict[str, bytes]:
    """What the run has of a bundle's extras; not its report page, which shows patients' photographs.

    From the texts the folders of absolute paths are taken, and from an evaluation its gallery, which names photographs.
    """
    names = [name for name in EXTRAS if name != "report.html" and (folder / name).is_file()]
    found = {name: content for name in names if (content := (folder / name).read_bytes())}
    try:
        if CARD in found:
            found[CARD] = str(without_folders(found[CARD].decode("utf-8"))).encode("utf-8")
        if "evaluation.json" in found:
            evaluation = json.loads(found["evaluation.json"])
            kept = {k: v for k, v in evaluation.items() if k != "gallery"} if isinstance(evaluation, dict) else {}
            found["evaluation.json"] = json.dumps(without_folders(kept), indent=1).encode("utf-8")
    except ValueError as error:
        hint = f"{CARD} is UTF-8, evaluation.json is JSON: mend or remove them"
        raise DataError(f"{folder}: {error}", hint=hint) from error
    return found


def _times(models: Mapping[str, bytes], contract: Contract) -> dict[str, float]:
    """Milliseconds of each graph here; nothing where an export is to be repeated to the byte."""
    return {} if os.environ.get("SOURCE_DATE_EPOCH") else graph_times(models, contract)


def _now() -> str:
    """UTC; SOURCE_DATE_EPOCH fixes it, so that an export can be repeated to the byte."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    moment = datetime.fromtimestamp(int(epoch), timezone.utc) if epoch.isdecimal() else datetime.now(timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
