"""Where this machine has a GPU and TensorRT, the gate runs on the engine too: its kernels are not the graph's words."""

from __future__ import annotations

from dataclasses import replace

from medtex_edge.errors import BackendError
from medtex_edge.export.gate import parity
from medtex_edge.export.gate import proof as prove
from medtex_edge.export.gate.proof import Proof, ProofCase
from medtex_edge.export.tensorrt import builder
from medtex_edge.progress import ProgressDisplay
from medtex_edge.runtime.backend import NonsenseError
from medtex_edge.runtime.backend.tensorrt import runner
from medtex_edge.runtime.engines import key

ENGINE = "tensorrt"


def prove_engine(name: str, proof: Proof, case: ProofCase, steps: ProgressDisplay) -> Proof:
    """`proof` with the parity of the engine that TensorRT builds of its graph for the GPU at hand.

    The engine is not kept: it would serve no other device. Where none can be built or run here, that is said and
    `proof` comes back as it was. Raises `ParityError` where the engine runs and its answers are beyond the bounds,
    `BundleError` where TensorRT refuses the graph.
    """
    if key.lacks_tensorrt():
        return proof
    try:
        with steps.step(f"{name} engine for this GPU", len(case.images)) as step:
            trt = runner.module()
            engine = builder.build(trt, proof.model, contract=case.contract, label=name)
            with runner.open_engine(engine.plan, case.contract, label=name, trt=trt) as backend:
                came = parity.of_backend(backend, case.images, step.tick)
            found = parity.compare(case.expected, came, case.contract)
            step.note = f"{trt.__name__} {engine.version}, {len(engine.plan) / 1e6:.1f} MB; {prove.words(found)}"
    except NonsenseError as error:
        raise prove.no_answers(name, error) from error
    except BackendError as error:
        steps.message(f"{name} is not proved on this machine's GPU: {error.message}")
        return proof
    proved = replace(proof, parities={**proof.parities, ENGINE: found}, came={**proof.came, ENGINE: came})
    prove.check(name, proved, case)
    return proved
