"""Says why a GPU provider of ONNX Runtime does not start on this machine."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

_LIBRARIES = {
    "CUDA": "libonnxruntime_providers_cuda.so",
    "TensorRT": "libonnxruntime_providers_tensorrt.so",
}
_SHARED = "libonnxruntime_providers_shared.so"
"""Every provider needs it, and ONNX Runtime loads it first."""
_DRIVER = "libcuda.so.1"


def why_not_started(
    provider: str, folder: Path, load: Callable[[str], object] = ctypes.CDLL
) -> str:
    """Return the library or driver that a provider misses.

    Args:
        provider: ``CUDA`` or ``TensorRT``.
        folder: The folder of ONNX Runtime's libraries.
        load: Loads a library; raises OSError where it or a library that it needs is missing.
    """
    try:
        load(_DRIVER)
    except OSError as error:
        return (
            f"the NVIDIA driver is not installed, or not visible in this container ({error}); "
            "nvidia-smi must list the GPU"
        )
    try:
        load(str(folder / _SHARED))
        load(str(folder / _LIBRARIES[provider]))
    except OSError as error:
        return f"a library is missing ({error}); pip install 'rales[gpu]' brings those of CUDA"
    return "the driver and all libraries load, so the GPU itself is not usable; run nvidia-smi"
