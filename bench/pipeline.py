"""Measures the seconds of each stage of an analysis of the sample series, after a warm-up.

    python bench/pipeline.py [--runs 5] [--series DIR]

The table also has the time of the bare networks: the same inputs as in the analysis, one after the
other, with nothing between them. The last lines are the ratio, what exceeds 1.0 being the time that
Rales adds to inference, the processor seconds beside the networks, and the peak of memory.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from phantom import make_thorax, sample_spec, write_series
from rales.analysis.pipeline import AnalysisRequest, run
from rales.analysis.settings import settings_of
from rales.cli.scanning import scan
from rales.config.sections import Config

Call = tuple[ort.InferenceSession, Mapping[str, NDArray[Any]]]


def recorded(analysis: Callable[[], object]) -> list[Call]:
    """Return every call of a network in an analysis, with its inputs."""
    calls: list[Call] = []
    original = ort.InferenceSession.run

    def record(session: Any, outputs: Any, feed: Mapping[str, NDArray[Any]], *more: Any) -> Any:
        calls.append((session, feed))
        return original(session, outputs, feed, *more)

    ort.InferenceSession.run = record
    try:
        analysis()
    finally:
        ort.InferenceSession.run = original
    return calls


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds and the processor seconds of some work."""
    start, begin = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - begin


def main() -> None:
    """Run the analysis, then its networks alone; print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--series", type=Path, help="a directory (default: the sample series)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.series or Path(temporary) / "series"
        if arguments.series is None:
            write_series(make_thorax(sample_spec()), folder)
        (series,) = scan(sorted(folder.iterdir())).series
        request = AnalysisRequest(
            series=series,
            settings=settings_of(Config()),
            folder=Path(temporary) / "out",
            created=datetime.now(UTC),
        )
        run(request)
        reports, processor = [], []
        for _ in range(arguments.runs):
            _, seconds = timed(lambda: reports.append(run(request)))
            processor.append(seconds)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        calls = recorded(lambda: run(request))
    alone = [
        timed(lambda: [session.run(None, feed) for session, feed in calls])
        for _ in range(arguments.runs)
    ]
    bare, networks = (statistics.median(each) for each in zip(*alone, strict=True))
    images = sum(len(image) for _, feed in calls for image in feed.values())
    print(f"| {len(series.instances)} slices, {reports[0].provider} | seconds |\n|---|---|")
    for stage in reports[0].seconds:
        print(f"| {stage} | {np.median([report.seconds[stage] for report in reports]):.2f} |")
    total = statistics.median(sum(report.seconds.values()) for report in reports)
    print(f"| total | {total:.2f} |")
    print(f"| networks alone ({images} images in {len(calls)} calls) | {bare:.2f} |")
    print(f"| total / networks alone | {total / bare:.2f} |")
    print(f"| processor seconds beside the networks | {np.median(processor) - networks:.2f} |")
    print(f"| peak of memory, MB | {peak:.0f} |")


if __name__ == "__main__":
    main()
