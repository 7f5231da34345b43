"""Writes the result folder of one analysis."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from chestct.analysed import AnalysedSeries
from chestct.errors import OutOfResources
from chestct.findings_json import findings_to_dict
from chestct.results import Extra, ResultSet
from dicom_out.objects.compose import compose
from dicom_out.objects.extras import compose_extras
from dicom_out.objects.sources import Sources
from rales.analysis.settings import AnalysisSettings
from rales.pictures.overlay import write_montage
from rales.pictures.page import drawings_of
from rales.pictures.trend import write_trend
from rales.state.results import AnalysisReport


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenResults:
    """The objects and the overlay in a result folder, and the extras that failed."""

    results: ResultSet
    overlay: Path
    left_out: tuple[Extra, ...]


def write_results(
    analysed: AnalysedSeries, sources: Sources, settings: AnalysisSettings, folder: Path
) -> WrittenResults:
    """Write every object and picture of an analysed series.

    Raises:
        ResultInvalid: A written object does not read back as computed.
        OutOfResources: The results cannot be written.
    """
    with _disk_errors():
        folder.mkdir(parents=True, exist_ok=True)
        objects = compose(analysed, sources, folder, settings.profiles)
        extras = compose_extras(
            settings.extras, drawings_of(analysed, sources), analysed, sources, folder
        )
        overlay = folder / "overlay.png"
        write_montage(overlay, analysed)
        if analysed.evolution is not None and analysed.evolution.is_comparable:
            write_trend(folder / "trend.png", analysed.evolution)
    return WrittenResults(
        results=ResultSet(key=analysed.key, objects=(*objects, *extras.objects)),
        overlay=overlay,
        left_out=extras.left_out,
    )


def write_findings(analysed: AnalysedSeries, report: AnalysisReport, folder: Path) -> None:
    """Write ``findings.json``.

    Raises:
        OutOfResources: The file cannot be written.
    """
    content = {
        "notice": "AI-made, research use only, not verified by a radiologist.",
        "series_uid": analysed.series.series_uid,
        "study_uid": analysed.series.instances[0].study_uid,
        "instances": len(analysed.series.instances),
        "created": analysed.created.isoformat(timespec="seconds"),
        "software": analysed.software.title,
        "models": [asdict(model) for model in analysed.models],
        "provider": report.provider,
        "findings": findings_to_dict(report.findings),
        "evolution": report.evolution,
        "seconds": {stage: round(value, 3) for stage, value in report.seconds.items()},
        "objects": {item.role: item.sop_instance_uid for item in report.results.objects},
    }
    with _disk_errors():
        (folder / "findings.json").write_text(
            json.dumps(content, indent=2) + "\n", encoding="utf-8"
        )


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise OutOfResources(f"the results cannot be written: {reason}") from error
