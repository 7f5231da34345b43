"""Measures the seconds of each stage of an analysis of the sample series, after a warm-up.

    python bench/pipeline.py [--runs 5] [--series DIR]

The table also has the time of the bare networks on the same slices. The last line is the ratio:
what exceeds 1.0 is the time that Rales adds to inference.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from inference.networks.session import OnnxModel
from phantom import make_thorax, sample_spec, write_series
from rales.analysis.pipeline import AnalysisRequest, models_for, run
from rales.analysis.settings import settings_of
from rales.cli.scanning import scan
from rales.config.sections import Config


def bare_seconds(model: OnnxModel, slices: int) -> float:
    """Return the seconds of the network alone, in batches of eight random slices."""
    contract = model.manifest.input
    random = np.random.default_rng(0)
    batch = random.random((8, contract.context, contract.rows, contract.columns), dtype=np.float32)
    model.run(batch)
    start = time.perf_counter()
    for first in range(0, slices, 8):
        model.run(batch[: min(8, slices - first)])
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--series", type=Path, help="a directory (default: the sample series)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.series or Path(temporary) / "series"
        if arguments.series is None:
            write_series(make_thorax(sample_spec()), folder)
        (series,) = scan(sorted(folder.iterdir())).series
        settings = settings_of(Config())
        request = AnalysisRequest(
            series=series,
            settings=settings,
            folder=Path(temporary) / "out",
            created=datetime.now(UTC),
        )
        run(request)
        reports = [run(request) for _ in range(arguments.runs)]
    models = models_for(settings.models_dir, settings.providers, settings.threads)
    slices = len(series.instances)
    print(f"{slices} slices on {models.provider}, median of {arguments.runs} warm runs")
    print(f"{'stage':<24}{'seconds':>9}")
    for stage in reports[0].seconds:
        seconds = statistics.median(report.seconds[stage] for report in reports)
        print(f"{stage:<24}{seconds:>9.2f}")
    total = statistics.median(sum(report.seconds.values()) for report in reports)
    print(f"{'total':<24}{total:>9.2f}")
    bare = 0.0
    for name, model in (("lungs", models.lungs), ("lesions", models.lesions)):
        assert isinstance(model, OnnxModel)
        seconds = bare_seconds(model, slices)
        bare += seconds
        print(f"{f'{name} network alone':<24}{seconds:>9.2f}")
    print(f"{'total / networks alone':<24}{total / bare:>9.2f}")


if __name__ == "__main__":
    main()
