"""The proof of one precision: its graph's answers on photographs, computed as engines compute them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from medtex_edge.contract import Contract
from medtex_edge.errors import BackendError, BundleError, MedtexError, ParityError
from medtex_edge.export.gate import parity, refusal
from medtex_edge.export.gate.parity import Answers, Images, Parity
from medtex_edge.export.int8 import calibration, quantize, search
from medtex_edge.export.int8.search import Int8Result
from medtex_edge.export.precision import half as precision
from medtex_edge.export.precision import rounding
from medtex_edge.progress import ProgressDisplay
from medtex_edge.runtime.backend import onnxruntime

_ENGINES = {"onnxruntime": "ONNX Runtime", "rounded": "rounded", "tensorrt": "TensorRT"}
_MEASURED = 16  # photographs that each layer's damage is measured on; more of them changed no order that mattered


@dataclass(frozen=True)
class Attempt:
    """One rung of the ladder of `precision.rungs`, and what came of it."""

    half_share: float  # fraction of convolutions and matrices in fp16
    label_flips: int
    verdict_flips: int
    probability: float
    saliency: float


@dataclass(frozen=True)
class Proof:
    """One precision: its ONNX file, and how far it is from the trained model by way of computing it."""

    model: bytes
    # "onnxruntime"; for fp16 also "rounded": every result rounded to fp16; "tensorrt" where this machine can run it.
    parities: dict[str, Parity]
    fp32_fallback: tuple[str, ...] = ()  # nodes of the float part that are kept in fp32
    peak: float | None = None  # the largest |value| of any half-precision node
    tries: tuple[Attempt, ...] = ()  # for fp16: what was tried, the last of them being this
    eight: Int8Result | None = None  # for int8: how it came to be
    came: dict[str, Answers] = field(default_factory=dict)  # the answers that `parities` are of


@dataclass(frozen=True)
class ProofCase:
    """The photographs and the trained model's own answers."""

    contract: Contract
    images: Images  # (N, S, S, 3)
    keys: tuple[str, ...]  # names, for errors alone
    expected: Answers
    validation: int  # how many of them, the first ones, are of the validation split; the others are training ones
    training: Images  # to calibrate int8 on: none of the validation split
    picture: Path | None = None  # where to show the worst photographs of a refusal


def prove_full(content: bytes, case: ProofCase, steps: ProgressDisplay) -> Proof:
    """Prove the fp32 graph. Raises `ParityError`."""
    with steps.step("fp32 against the trained model", len(case.images)) as step:
        came = _by_onnxruntime(content, case, "fp32", step.tick)
        found = parity.compare(case.expected, came, case.contract)
        proof = Proof(content, {"onnxruntime": found}, came={"onnxruntime": came})
        check("fp32", proof, case)
        step.note = words(found)
    return proof


def prove_half(full: bytes, case: ProofCase, steps: ProgressDisplay) -> Proof:
    """Make the fp16 graph with as much in fp16 as the bounds allow, and prove it. Raises `ParityError`.

    Where labels flip, the first layers of student and explainer are given back to fp32, more of them rung by rung: on
    real photographs the first three of the student's fifty convolutions cause most of the error, and what is left
    where all of the student is fp32 comes from the explainer.
    """
    bounds = precision.BOUNDS["fp16"]
    tries: list[Attempt] = []
    for keep in precision.rungs(full):
        with steps.step(f"fp16 graph{', less of it' * bool(tries)}", 2 * len(case.images)) as step:
            proof = _half(full, keep, case, "fp16", step.tick)
            worst = _worst(proof)
            share = precision.half_share(proof.model)
            tries.append(Attempt(share, worst.label_flips, worst.verdict_flips, worst.probability, worst.saliency))
            step.note = f"{share:.0%} of its layers in fp16, {len(proof.model) / 1e6:.1f} MB; {words(worst)}"
        if all(parity.holds(found, bounds) for found in proof.parities.values()):
            return replace(proof, tries=tuple(tries))
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
    tries: list[search.Attempt] = []
    proof = None
    for nodes in search.candidates(damages):
        with steps.step(f"int8 graph{', less of it' * bool(tries)}", 2 * len(case.images)) as step:
            proof = _half(
                quantize.quantise(full, scales, nodes), frozenset(half.fp32_fallback), case, "int8", step.tick
            )
            found, share = _worst(proof), quantize.share(proof.model)
            tries.append(search.Attempt(share, found.label_flips, found.verdict_flips, found.probability,
                                         found.saliency, found.rank_correlation))  # fmt: skip
            step.note = f"{share:.0%} of multiply-adds in int8, {len(proof.model) / 1e6:.1f} MB; {words(found)}"
        if all(parity.holds(one, precision.BOUNDS["int8"]) for one in proof.parities.values()):
            precisions = quantize.precisions(proof.model, layers)
            eight = Int8Result(share, len(case.training), len(chosen), tuple(damages), precisions, tuple(tries))
            return replace(proof, eight=eight)
    if proof is None:
        raise ParityError(
            f"int8: no {search.LEAST:.0%} of the multiply-adds can be rounded to eight bits within the bounds, "
            f"most damage is done by {worst.layer.name}; no bundle was written",
            hint=parity.HINTS["int8"],
        )
    check("int8", proof, case)
    raise AssertionError("an int8 graph was refused that no check refuses")


def check(name: str, proof: Proof, case: ProofCase) -> None:
    """Raise `ParityError` where a number is beyond its bound, with a picture of the worst photographs."""
    for engine, found in proof.parities.items():
        try:
            parity.check(name, found, precision.BOUNDS[name], case.keys, _ENGINES[engine])
        except ParityError as error:
            if case.picture is None:
                raise
            refusal.show(case.picture, case.images, case.keys, case.expected, proof.came[engine], case.contract)
            message = f"{error.message}; the worst photographs are shown in {case.picture}"
            raise ParityError(message, hint=error.hint) from error


def _worst(proof: Proof) -> Parity:
    return max(proof.parities.values(), key=lambda p: (p.label_flips + p.verdict_flips, p.probability))


def _half(full: bytes, keep: frozenset[str], case: ProofCase, name: str, tick: parity.Tick) -> Proof:
    """The fp16 graph with `keep` and whatever comes near the end of fp16's range on these photographs in fp32."""
    while True:
        content = precision.to_half(full, keep)
        session = rounding.EmulatedSession(rounding.emulate(content))
        came = parity.answers(session.infer, case.images, tick)
        if not (more := session.overflowing() - keep):
            break
        keep |= more
    if session.peak() > rounding.HALF_MAX:
        raise ParityError(
            f"{name}: values of up to {session.peak():.3g} leave its range (bound {rounding.HALF_MAX:g}); "
            "no bundle was written",
            hint=parity.HINTS[name],
        )
    rounded = parity.compare(case.expected, came, case.contract)
    fp32_fallback, peak = tuple(sorted(keep)), session.peak()
    if not parity.holds(rounded, precision.BOUNDS[name]):
        tick(len(case.images))
        return Proof(content, {"rounded": rounded}, fp32_fallback, peak, came={"rounded": came})
    others = _by_onnxruntime(content, case, name, tick)
    found = parity.compare(case.expected, others, case.contract)
    return Proof(
        content, {"onnxruntime": found, "rounded": rounded}, fp32_fallback, peak,
        came={"onnxruntime": others, "rounded": came},
    )  # fmt: skip


def _by_onnxruntime(content: bytes, case: ProofCase, name: str, tick: parity.Tick) -> Answers:
    try:
        with onnxruntime.open_graph(content, case.contract, label=name) as backend:
            return parity.of_backend(backend, case.images, tick)
    except (BackendError, BundleError) as error:
        raise no_answers(name, error) from error


def no_answers(name: str, error: MedtexError) -> ParityError:
    """For answers that are none (NaN, out of range), which are the largest difference there is."""
    return ParityError(f"{name}: the exported graph does not work: {error.message}", hint=error.hint)


def words(found: Parity) -> str:
    """In half a line."""
    tied = f" (and {found.label_ties} tied)" if found.label_ties else ""
    return (
        f"labels flipped {found.label_flips}{tied}, verdicts {found.verdict_flips}, "
        f"probability ±{found.probability:.2g}, saliency ±{found.saliency:.2g}"
    )
