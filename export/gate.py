"""The precision gate: a graph (fp32, fp16 or int8) enters a bundle only where its answers are the trained model's.

Each `prove_*` makes one graph, runs it on photographs as engines compute it, and compares its answers with those of
the fp32 PyTorch model (`medtex_edge.export.parity`). A difference beyond the bounds raises `ParityError`, and a picture
of the worst photographs is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from medtex_edge.contract import Contract
from medtex_edge.errors import BackendError, BundleError, MedtexError, ParityError
from medtex_edge.export import parity
from medtex_edge.export.int8 import calibration, quantize, search
from medtex_edge.export.int8.search import Int8Attempt, Int8Result
from medtex_edge.export.parity import Answers, Floats, Images, Parity
from medtex_edge.export.precision import half as precision
from medtex_edge.export.precision import rounding
from medtex_edge.export.tensorrt import builder
from medtex_edge.files import atomic_path, storage
from medtex_edge.progress import ProgressDisplay
from medtex_edge.runtime.backend import NonsenseError, onnxruntime
from medtex_edge.runtime.backend.tensorrt import runner
from medtex_edge.runtime.engines import key as engine_key

ENGINE = "tensorrt"
ROWS = 4  # photographs in the picture of a refusal
_ENGINES = {"onnxruntime": "ONNX Runtime", "rounded": "rounded", "tensorrt": "TensorRT"}
_MEASURED = 16  # photographs that each layer's damage is measured on; more of them changed no order that mattered
_SIDE = 224  # pixels of a panel
_LINE = 20  # pixels of a line of text
_GAP = 8  # pixels between panels
_TITLES = ("photograph", "map, trained model", "map, graph", "difference")
Picture = npt.NDArray[np.uint8]  # (H, W, 3) BGR


@dataclass(frozen=True)
class Fp16Attempt:
    """One rung of the ladder of `precision.rungs`, and its parity."""

    half_share: float  # fraction of convolutions and matrices in fp16
    label_flips: int
    verdict_flips: int
    probability: float
    saliency: float


@dataclass(frozen=True)
class Proof:
    """One precision: its ONNX file, and how far it is from the trained model on each engine."""

    model: bytes
    # "onnxruntime"; for fp16 also "rounded": every result rounded to fp16; "tensorrt" where this machine can run it.
    parities: dict[str, Parity]
    fp32_fallback: tuple[str, ...] = ()  # nodes of the float part that are kept in fp32
    peak: float | None = None  # the largest |value| of any half-precision node
    attempts: tuple[Fp16Attempt, ...] = ()  # for fp16: every graph that was tried, the last of them being this
    int8: Int8Result | None = None  # for int8: how the graph was found
    answers: dict[str, Answers] = field(default_factory=dict)  # the answers that `parities` compare


@dataclass(frozen=True)
class ProofCase:
    """The photographs and the trained model's own answers."""

    contract: Contract
    images: Images  # (N, S, S, 3) uint8 RGB
    keys: tuple[str, ...]  # N names, for errors alone
    expected: Answers
    validation: int  # how many of them, the first ones, are of the validation split; the others are training ones
    training: Images  # (M, S, S, 3) uint8 RGB, to calibrate int8 on: none of the validation split
    picture: Path | None = None  # where to show the worst photographs of a refusal


def prove_fp32(content: bytes, case: ProofCase, steps: ProgressDisplay) -> Proof:
    """Prove the fp32 graph `content`, an ONNX file. Raises `ParityError`."""
    with steps.step("fp32 against the trained model", len(case.images)) as step:
        actual = _by_onnxruntime(content, case, "fp32", step.tick)
        found = parity.compare(case.expected, actual, case.contract)
        proof = Proof(content, {"onnxruntime": found}, answers={"onnxruntime": actual})
        check("fp32", proof, case)
        step.note = summary(found)
    return proof


def prove_fp16(full: bytes, case: ProofCase, steps: ProgressDisplay) -> Proof:
    """Make the fp16 graph with as much in fp16 as the bounds allow, and prove it. Raises `ParityError`.

    Where labels flip, the first layers of student and explainer are given back to fp32, more of them rung by rung: on
    real photographs the first three of the student's fifty convolutions cause most of the error, and what is left
    where all of the student is fp32 comes from the explainer.
    """
    bounds = parity.BOUNDS["fp16"]
    attempts: list[Fp16Attempt] = []
    for keep in precision.rungs(full):
        with steps.step(f"fp16 graph{', less of it' * bool(attempts)}", 2 * len(case.images)) as step:
            proof = _half(full, keep, case, "fp16", step.tick)
            worst = _worst(proof)
            share = precision.half_share(proof.model)
            attempts.append(
                Fp16Attempt(share, worst.label_flips, worst.verdict_flips, worst.probability, worst.saliency)
            )
            step.note = f"{share:.0%} of its layers in fp16, {len(proof.model) / 1e6:.1f} MB; {summary(worst)}"
        if all(parity.holds(found, bounds) for found in proof.parities.values()):
            return replace(proof, attempts=tuple(attempts))
    check("fp16", proof, case)
    raise AssertionError("a rung was refused that no check refuses")


def prove_int8(full: bytes, half: Proof, case: ProofCase, steps: ProgressDisplay) -> Proof:
    """Make the int8 graph with as many multiply-adds in eight bits as the bounds allow, and prove it.

    What is not in eight bits is as in the fp16 graph that `half` proves. Calibrated and measured on `case.training`,
    proved on `case.images`. Raises `ParityError`.
    """
    layers = quantize.layers(full)
    chosen = np.linspace(0, len(case.training) - 1, min(len(case.training), _MEASURED)).round().astype(int)
    with steps.step("int8: range of each value", 2 * len(case.training)) as step:
        tensors = sorted({name for layer in layers for name in layer.inputs})
        scales = calibration.observe(full, tensors, case.training, step.tick)
        step.note = f"{len(tensors)} on {len(case.training)} training photographs"
    with steps.step("int8: damage of each layer", len(layers)) as step:
        damages = search.measure(full, scales, layers, case.training[chosen], step.tick)
        worst = max(damages, key=lambda d: d.squared())
        step.note = f"{len(layers)} layers, most by {worst.layer.name}"
    attempts: list[Int8Attempt] = []
    proof = None
    for nodes in search.candidates(damages):
        with steps.step(f"int8 graph{', less of it' * bool(attempts)}", 2 * len(case.images)) as step:
            proof = _half(
                quantize.quantise(full, scales, nodes), frozenset(half.fp32_fallback), case, "int8", step.tick
            )
            found, share = _worst(proof), quantize.share(proof.model)
            attempts.append(Int8Attempt(share, found.label_flips, found.verdict_flips, found.probability,
                                        found.saliency, found.rank_correlation))  # fmt: skip
            step.note = f"{share:.0%} of multiply-adds in int8, {len(proof.model) / 1e6:.1f} MB; {summary(found)}"
        if all(parity.holds(one, parity.BOUNDS["int8"]) for one in proof.parities.values()):
            precisions = quantize.precisions(proof.model, layers)
            result = Int8Result(share, len(case.training), len(chosen), tuple(damages), precisions, tuple(attempts))
            return replace(proof, int8=result)
    if proof is None:
        raise ParityError(
            f"int8: no {search.LEAST:.0%} of the multiply-adds can be rounded to eight bits within the bounds, "
            f"most damage is done by {worst.layer.name}; no bundle was written",
            hint=parity.HINTS["int8"],
        )
    check("int8", proof, case)
    raise AssertionError("an int8 graph was refused that no check refuses")


def prove_engine(name: str, proof: Proof, case: ProofCase, steps: ProgressDisplay) -> Proof:
    """Add the parity of the engine that TensorRT builds of the proof's graph for the GPU of this machine.

    An engine's kernels may compute something else than its graph describes. The engine is not kept: no other device
    could use it. Where none can be built or run here, a message reports it and `proof` is returned unchanged. Raises
    `ParityError` where the engine runs and its answers are beyond the bounds, `BundleError` where TensorRT refuses the
    graph.
    """
    if engine_key.lacks_tensorrt():
        return proof
    try:
        with steps.step(f"{name} engine for this GPU", len(case.images)) as step:
            trt = runner.module()
            engine = builder.build(trt, proof.model, contract=case.contract, label=name)
            with runner.open_engine(engine.plan, case.contract, label=name, trt=trt) as backend:
                actual = parity.of_backend(backend, case.images, step.tick)
            found = parity.compare(case.expected, actual, case.contract)
            step.note = f"{trt.__name__} {engine.version}, {len(engine.plan) / 1e6:.1f} MB; {summary(found)}"
    except NonsenseError as error:
        raise _no_answers(name, error) from error
    except BackendError as error:
        steps.message(f"{name} is not proved on this machine's GPU: {error.message}")
        return proof
    proved = replace(proof, parities={**proof.parities, ENGINE: found}, answers={**proof.answers, ENGINE: actual})
    check(name, proved, case)
    return proved


def check(name: str, proof: Proof, case: ProofCase) -> None:
    """Raise `ParityError` where a number is beyond its bound, with a picture of the worst photographs."""
    for engine, found in proof.parities.items():
        try:
            parity.check(name, found, parity.BOUNDS[name], case.keys, _ENGINES[engine])
        except ParityError as error:
            if case.picture is None:
                raise
            draw_refusal(case.picture, case.images, case.keys, case.expected, proof.answers[engine], case.contract)
            message = f"{error.message}; the worst photographs are shown in {case.picture}"
            raise ParityError(message, hint=error.hint) from error


def summary(found: Parity) -> str:
    """The parity in half a line."""
    tied = f" (and {found.label_ties} tied)" if found.label_ties else ""
    return (
        f"labels flipped {found.label_flips}{tied}, verdicts {found.verdict_flips}, "
        f"probability ±{found.probability:.2g}, saliency ±{found.saliency:.2g}"
    )


def _worst(proof: Proof) -> Parity:
    return max(proof.parities.values(), key=lambda p: (p.label_flips + p.verdict_flips, p.probability))


def _half(full: bytes, keep: frozenset[str], case: ProofCase, name: str, tick: parity.Tick) -> Proof:
    """The fp16 graph with `keep`, and whatever comes near the end of fp16's range on these photographs, in fp32."""
    while True:
        content = precision.to_half(full, keep)
        session = rounding.EmulatedSession(rounding.emulate(content))
        rounded_answers = parity.answers(session.infer, case.images, tick)
        if not (more := session.overflowing() - keep):
            break
        keep |= more
    if session.peak() > rounding.HALF_MAX:
        raise ParityError(
            f"{name}: values of up to {session.peak():.3g} leave its range (bound {rounding.HALF_MAX:g}); "
            "no bundle was written",
            hint=parity.HINTS[name],
        )
    rounded = parity.compare(case.expected, rounded_answers, case.contract)
    fp32_fallback, peak = tuple(sorted(keep)), session.peak()
    if not parity.holds(rounded, parity.BOUNDS[name]):
        tick(len(case.images))
        return Proof(content, {"rounded": rounded}, fp32_fallback, peak, answers={"rounded": rounded_answers})
    actual = _by_onnxruntime(content, case, name, tick)
    found = parity.compare(case.expected, actual, case.contract)
    return Proof(
        content, {"onnxruntime": found, "rounded": rounded}, fp32_fallback, peak,
        answers={"onnxruntime": actual, "rounded": rounded_answers},
    )  # fmt: skip


def _by_onnxruntime(content: bytes, case: ProofCase, name: str, tick: parity.Tick) -> Answers:
    try:
        with onnxruntime.open_graph(content, case.contract, label=name) as backend:
            return parity.of_backend(backend, case.images, tick)
    except (BackendError, BundleError) as error:
        raise _no_answers(name, error) from error


def _no_answers(name: str, error: MedtexError) -> ParityError:
    """For outputs that are no answers (NaN, out of range), which are the largest difference there is."""
    return ParityError(f"{name}: the exported graph does not work: {error.message}", hint=error.hint)


def draw_refusal(
    path: Path, images: Images, keys: Sequence[str], expected: Answers, actual: Answers, contract: Contract
) -> None:
    """Write a PNG of the `ROWS` photographs with the largest differences. Raises `StorageError`.

    A row shows a photograph (of `images`, (N, S, S, 3) uint8 RGB), both maps and their difference, with both answers
    as text. Maps and differences are coloured from 0 (dark) to 1 on one scale, so that rows can be compared.
    """
    off = [np.nan_to_num(np.abs(b - a), nan=1.0, posinf=1.0) for a, b in zip(expected, actual, strict=True)]
    order = np.argsort(-off[0].max(axis=1) - off[1].mean(axis=(1, 2)), kind="stable")[:ROWS]
    rows = [np.hstack([_text_line(title, _SIDE + _GAP) for title in _TITLES])]
    for index in order:
        maps = [expected[1][index], actual[1][index], off[1][index]]
        panels = [cv2.cvtColor(cv2.resize(images[index], (_SIDE, _SIDE)), cv2.COLOR_RGB2BGR), *map(_colour, maps)]
        line = (
            f"{keys[index]}: {_answer(expected[0][index], contract)} by the trained model, "
            f"{_answer(actual[0][index], contract)} by the graph"
        )
        rows.append(_text_line(line, len(_TITLES) * (_SIDE + _GAP)))
        rows.append(np.hstack([_framed(panel) for panel in panels]))
    with atomic_path(path) as temporary, storage(path):
        cv2.imwrite(str(temporary), np.vstack(rows))


def _answer(probabilities: Floats, contract: Contract) -> str:
    if not np.isfinite(probabilities).all():
        return "no numbers"
    label = int(probabilities.argmax())
    referable = float(contract.referable_probability(probabilities))
    return f"{contract.classes[label]} {probabilities[label]:.3f} (referable {referable:.3f})"


def _colour(values: Floats) -> Picture:
    grey = np.rint(255 * np.clip(np.nan_to_num(values, nan=1.0), 0, 1)).astype(np.uint8)
    scaled = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.applyColorMap(scaled, cv2.COLORMAP_VIRIDIS), np.uint8)


def _framed(panel: npt.NDArray[np.generic]) -> Picture:
    framed = np.full((_SIDE + _GAP, _SIDE + _GAP, 3), 255, np.uint8)
    framed[:_SIDE, :_SIDE] = panel
    return framed


def _text_line(text: str, width: int) -> Picture:
    strip = np.full((_LINE, width, 3), 255, np.uint8)
    # OpenCV's letters are ASCII alone.
    plain = text.encode("ascii", "replace").decode("ascii")
    cv2.putText(strip, plain, (4, _LINE - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return strip
