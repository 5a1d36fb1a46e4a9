"""Which modules a piece of code loads, and which of them a device does not have."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = {
    "torch", "tensorrt", "tensorrt_rtx", "pycuda", "timm", "matplotlib", "sklearn", "kornia", "onnx", "onnxscript",
    "scipy",
}  # fmt: skip


def loaded_by(code: str) -> set[str]:
    """Names of all modules that a fresh interpreter has loaded after `code`."""
    probe = f"import sys, json\n{code}\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=120, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))
