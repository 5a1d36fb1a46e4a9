"""The proof of one precision: its graph's answers on photographs, computed as engines compute them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from medtex_edge.contract import Contract
from medtex_edge.errors import BackendError, BundleError, ParityError
from medtex_edge.export import parity, precision, rounding
from medtex_edge.export.parity import Answers, Images, Parity
from medtex_edge.export.steps import Steps
from medtex_edge.runtime.backend import onnxruntime


@dataclass(frozen=True)
class Try:
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
    parities: dict[str, Parity]  # "onnxruntime"; for fp16 also "rounded": every result rounded to fp16
    lifted: tuple[str, ...] = ()  # nodes of the float part that are kept in fp32
    peak: float | None = None  # the largest |value| of any half-precision node
    tries: tuple[Try, ...] = ()  # for fp16: what was tried, the last of them being this


@dataclass(frozen=True)
class Case:
    """The photographs and the trained model's own answers."""

    contract: Contract
    images: Images  # (N, S, S, 3)
    keys: tuple[str, ...]  # names, for errors alone
    expected: Answers


def prove_full(content: bytes, case: Case, steps: Steps) -> Proof:
    """Prove the fp32 graph. Raises `ParityError`."""
    with steps.step("fp32 against the trained model", len(case.images)) as step:
        found = _by_onnxruntime(content, case, "fp32", step.tick)
        parity.check("fp32", found, precision.BOUNDS["fp32"], case.keys, "ONNX Runtime")
        step.note = _words(found)
    return Proof(content, {"onnxruntime": found})


def prove_half(full: bytes, case: Case, steps: Steps) -> Proof:
    """Make the fp16 graph with as much in fp16 as the bounds allow, and prove it. Raises `ParityError`.

    Where labels flip, the first layers of student and explainer are given back to fp32, more of them rung by rung: on
    real photographs the first three of the student's fifty convolutions cause most of the error, and what is left
    where all of the student is fp32 comes from the explainer.
    """
    bounds = precision.BOUNDS["fp16"]
    tries: list[Try] = []
    for keep in precision.rungs(full):
        with steps.step(f"fp16 graph{', less of it' * bool(tries)}", 2 * len(case.images)) as step:
            proof = _half(full, keep, case, step.tick)
            worst = max(proof.parities.values(), key=lambda p: (p.label_flips + p.verdict_flips, p.probability))
            share = precision.half_share(proof.model)
            tries.append(Try(share, worst.label_flips, worst.verdict_flips, worst.probability, worst.saliency))
            step.note = f"{share:.0%} of its layers in fp16, {len(proof.model) / 1e6:.1f} MB; {_words(worst)}"
        if all(parity.holds(found, bounds) for found in proof.parities.values()):
            return replace(proof, tries=tuple(tries))
    for engine, found in proof.parities.items():
        parity.check("fp16", found, bounds, case.keys, "ONNX Runtime" if engine == "onnxruntime" else "rounded")
    raise AssertionError("a rung was refused that no check refuses")


def _half(full: bytes, keep: frozenset[str], case: Case, tick: parity.Tick) -> Proof:
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
            f"fp16: values of up to {session.peak():.3g} leave its range (bound {rounding.HALF_MAX:g}); "
            "no bundle was written",
            hint="export without --fp16",
        )
    rounded = parity.compare(case.expected, came, case.contract)
    found = _by_onnxruntime(content, case, "fp16", tick)
    return Proof(content, {"onnxruntime": found, "rounded": rounded}, tuple(sorted(keep)), session.peak())


def _by_onnxruntime(content: bytes, case: Case, name: str, tick: parity.Tick) -> Parity:
    try:
        with onnxruntime.open_graph(content, case.contract, label=name) as backend:
            came = parity.of_backend(backend, case.images, tick)
    except (BackendError, BundleError) as error:
        # Answers that are none (NaN, out of range) are the largest difference there is.
        raise ParityError(f"{name}: the exported graph does not work: {error.message}", hint=error.hint) from error
    return parity.compare(case.expected, came, case.contract)


def _words(found: Parity) -> str:
    tied = f" (and {found.label_ties} tied)" if found.label_ties else ""
    return (
        f"labels flipped {found.label_flips}{tied}, verdicts {found.verdict_flips}, "
        f"probability ±{found.probability:.2g}, saliency ±{found.saliency:.2g}"
    )
