"""What the processor is quick at; without TensorFlow."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

__all__ = ["has_native_bfloat16"]


@cache
def has_native_bfloat16() -> bool:
    """Whether matrix products in bfloat16 run on instructions of the processor's own, through oneDNN.

    Elsewhere they are emulated, and slower than float32. Only Linux tells; other systems count as without.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return False
    return ("avx512_bf16" in flags or "amx_bf16" in flags) and os.environ.get("TF_ENABLE_ONEDNN_OPTS") != "0"
