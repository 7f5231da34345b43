"""The shipped models, the split, and the seeds that the commands use."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from inference.networks.session import OnnxModel, load_model

SHIPPED_MODELS = Path(str(resources.files("inference"))) / "models"
SPLIT = "covid-ct-seg"
"""The committed split of ``slices.npz`` into training and validation volumes."""
TRAINING_PHANTOMS = range(1, 49)
"""Seeds of the phantoms to train on."""
TRAINING_PLAIN = range(1, 25)
"""Seeds of the plain chests to train on."""
WATCHED = range(1001, 1004)
"""Seeds of the scans that the training log scores besides the patients; never trained on."""
VALIDATION_SEEDS = range(1001, 1022)
"""Seeds of the scans that choose the presence rule; every third scan has no lesion."""
TEST_PHANTOMS = range(12001, 12019)
"""Seeds of the phantoms and plain chests that the report measures; never trained or chosen on."""


def load_pair(folder: Path | None, threads: int = 0) -> tuple[OnnxModel, OnnxModel]:
    """Load the lung and the lesion network of ``folder`` (default: the shipped ones) on the CPU.

    Raises:
        ModelError: A file is missing, damaged, or breaks its contract.
    """
    lungs, lesions = (
        load_model((folder or SHIPPED_MODELS) / f"{task}.toml", provider="CPU", threads=threads)
        for task in ("lungs", "lesions")
    )
    return lungs, lesions
