"""``make viewer``: shows studies and their results from a real PACS in a real viewer."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import click

from chestct.errors import RalesError
from chestct.uids import Uid
from phantom import (
    PhantomIdentity,
    PhantomSpec,
    healthy_spec,
    make_thorax,
    sample_spec,
    write_series,
)
from rales.demo.pacs import DemoFailed, has_dicomweb, start_pacs
from rales.demo.run import AE_TITLE, await_jobs, send_series, start_node
from rales.state.results import load_objects
from viewer.ohif import ohif_dist
from viewer.proxy import Site, serve_site

_SAMPLES: tuple[tuple[str, PhantomSpec], ...] = (
    ("Phantom^Lesions", sample_spec()),
    ("Phantom^Healthy", healthy_spec()),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewerSetup:
    """The series to show, and the viewer.

    Attributes:
        series: One directory per CT series.
        ohif: The directory that keeps the built viewer between runs.
        config: The ``app-config.js`` of the viewer.
        port: The port on this machine; 0 for any port.
    """

    series: Sequence[Path]
    ohif: Path
    config: Path
    port: int


@contextmanager
def open_viewer(setup: ViewerSetup, say: Callable[[str], None]) -> Iterator[list[str]]:
    """Analyse the series, then run the viewer and yield one link per study.

    Raises:
        DemoFailed: A program is missing or failed; the message says what to do.
    """
    if not has_dicomweb():
        raise DemoFailed(
            "Orthanc or its DICOMweb plug-in is not installed; "
            "on Debian: apt-get install orthanc orthanc-dicomweb"
        )
    dist = ohif_dist(setup.ohif)
    with ExitStack() as stack:
        work = Path(stack.enter_context(TemporaryDirectory(prefix="rales-viewer-")))
        pacs = stack.enter_context(start_pacs(work / "pacs", AE_TITLE))
        web_port = urlsplit(pacs.url).port
        assert web_port is not None
        site = Site(files=dist, config=setup.config, pacs=web_port)
        # Before the analysis, so that a used port is reported at once.
        url = stack.enter_context(serve_site(site, setup.port))
        series = setup.series or list(_make_samples(work, say))
        studies: list[Uid] = []
        with start_node(work / "node", pacs, work / "rales.log") as node:
            for folder in series:
                send_series(folder, pacs.destination)
                send_series(folder, node)
                say(f"{pacs.name} and Rales have {folder.name}")
            jobs = await_jobs(work / "node", len(series))
        for job in jobs:
            say(f"series {job.series_uid}: Rales' results are in {pacs.name}")
            studies += [item.study_uid for item in load_objects(job)]
        yield [f"{url}/viewer?StudyInstanceUIDs={study}" for study in dict.fromkeys(studies)]


def _make_samples(work: Path, say: Callable[[str], None]) -> Iterator[Path]:
    for name, spec in _SAMPLES:
        say(f"generating the sample series of {name}")
        folder = work / name
        # OHIF searches its list of series by Patient ID; Orthanc's DICOMweb finds none with a "^".
        patient_id = name.upper().replace("^", "-")
        identity = PhantomIdentity(patient_id=patient_id, patient_name=name)
        write_series(make_thorax(spec), folder, identity)
        yield folder


@click.command()
@click.option(
    "--series",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="A directory with one chest CT series; may be repeated. Default: two phantoms, one with "
    "lesions and one without.",
)
@click.option(
    "--ohif",
    default=Path("var/viewer"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The directory that keeps the OHIF viewer, which npm fetches the first time.",
)
@click.option(
    "--app-config",
    default=Path("deploy/compose/ohif.js"),
    show_default=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The viewer's configuration.",
)
@click.option(
    "--port", default=3000, show_default=True, help="The port on this machine; 0 for any port."
)
def main(series: tuple[Path, ...], ohif: Path, app_config: Path, port: int) -> None:
    """Analyse chest CT series and show the results in OHIF, from Orthanc, until Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM):  # shells ignore SIGINT in background jobs
        signal.signal(number, signal.default_int_handler)
    setup = ViewerSetup(series=series, ohif=ohif, config=app_config, port=port)
    try:
        with open_viewer(setup, lambda line: click.echo(f"- {line}")) as links:
            for link in links:
                click.echo(link)
            click.echo(
                "Double-click the SEG and the SR in the list of series. Press Ctrl-C to stop."
            )
            threading.Event().wait()
    except KeyboardInterrupt:
        click.echo("stopped")
    except RalesError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
