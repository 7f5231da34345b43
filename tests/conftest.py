"""How the tests run, and the series that all of them may use."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from steady_scu import park_before_requests

from phantom import PhantomIdentity, Thorax, make_thorax, small_spec, write_series

# pynetdicom's storescu and echoscu have the names of dcmtk's, and an activated environment puts
# them first: what the tests start by name are the machine's own programs.
_OWN = str(Path(sys.executable).parent)
os.environ["PATH"] = os.pathsep.join(
    folder for folder in os.environ["PATH"].split(os.pathsep) if folder != _OWN
)
_TESTS = Path(__file__).resolve().parent
_SHARED = _TESTS.parents[1] / "shared"
_SLOW = ("conformance", "deploy", "e2e", "faults", "packaging", "training", "viewer")
"""Folders whose tests run nodes and other programs, or train networks: their items are slow."""
_MOST_WORKERS = 12

# How long an example takes says how busy the machine is. Every run draws the same examples, so that
# a run fails for what changed; HYPOTHESIS=explore draws new ones.
settings.register_profile(
    "rales",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=os.environ.get("HYPOTHESIS") != "explore",
)
settings.load_profile("rales")


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return one worker more than cores for ``-n auto``, as slow tests wait; else the cores."""
    cores = os.cpu_count() or 1
    return min(cores + (config.option.numprocesses == "auto"), _MOST_WORKERS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the slow folders, and let the files that take longest start first."""
    for item in items:
        if item.path.relative_to(_TESTS).parts[0] in _SLOW:
            item.add_marker("slow")
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    markers = {marker.name for marker in item.iter_markers()}
    if markers & {"real", "viewer"}:
        return 0
    return 1 if "slow" in markers else 2


@pytest.fixture(scope="session", autouse=True)
def _no_lost_response() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        park_before_requests(patch)
        yield


@pytest.fixture(scope="session")
def shared_root() -> Path:
    """Return the folder of real data that lies beside the checkout in development and CI."""
    if not _SHARED.is_dir():
        pytest.skip("the real series of ../shared are not on this machine")
    return _SHARED


@pytest.fixture(scope="session")
def small_thorax() -> Thorax:
    return make_thorax(small_spec())


@pytest.fixture(scope="session")
def healthy_thorax() -> Thorax:
    return make_thorax(small_spec(lesions=(), seed=2))


@pytest.fixture(scope="session")
def small_series(small_thorax: Thorax, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small-series")
    write_series(small_thorax, folder)
    return folder


@pytest.fixture(scope="session")
def healthy_series(healthy_thorax: Thorax, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("healthy-series")
    write_series(healthy_thorax, folder, PhantomIdentity(patient_id="HEALTHY"))
    return folder


@pytest.fixture
def make_series(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a small series of its own, to be changed by the test."""

    def make(
        name: str = "series", *, identity: PhantomIdentity | None = None, **spec: object
    ) -> Path:
        thorax = make_thorax(small_spec(**spec))
        write_series(thorax, tmp_path / name, identity)
        return tmp_path / name

    return make


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Undo what a command of the command line does to the logging of its process."""
    loggers = [logging.getLogger(name) for name in ("", "pynetdicom", "pydicom")]
    before = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    shown = os.environ.get("PYTHONWARNINGS")
    yield
    os.environ.pop("PYTHONWARNINGS", None)
    if shown is not None:
        os.environ["PYTHONWARNINGS"] = shown
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers
