"""What the processor or the GPU is quick at."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

__all__ = ["has_gpu", "has_native_bfloat16", "quick_precision"]


@cache
def has_native_bfloat16() -> bool:
    """Tell whether matrix products in bfloat16 run on instructions of the processor's own, through oneDNN.

    Elsewhere they are emulated, and slower than float32. Only Linux tells; other systems count as without.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return False
    return ("avx512_bf16" in flags or "amx_bf16" in flags) and os.environ.get("TF_ENABLE_ONEDNN_OPTS") != "0"


def has_gpu() -> bool:
    """Tell whether TensorFlow computes on a GPU."""
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def quick_precision() -> str:
    """Name the precision that the device trains quickly in without a narrower range: "mixed_bfloat16" or "float32"."""
    import tensorflow as tf  # searching in a gallery asks for the processor alone, and needs no TensorFlow

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "mixed_bfloat16" if has_native_bfloat16() else "float32"
    capabilities = [tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus]
    return "mixed_bfloat16" if min(capabilities) >= (8, 0) else "float32"
