from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from fakes import FakeSender
from state_rig import StateRig
from steps import step_all

from chestct.results import Extra, Profile, ResultObject
from chestct.series import ReceivedInstance
from chestct.states import DeliveryState, JobState
from dicom_out.network.destination import Destination
from dicom_out.network.outcome import Outcome, OutcomeKind
from rales.state.results import sr_references
from rales.state.store import Database, DeliveryStore, Job
from rales.steps.backoff import BackOff
from rales.steps.deliver import DeliveryWorker
from rales.steps.retry import retry

from .conftest import NOON

Make = Callable[..., ReceivedInstance]

_BUSY = Outcome(kind=OutcomeKind.FAILED, status=0xA700, message="full")
_NO = Outcome(kind=OutcomeKind.REFUSED, status=0xA900, message="no")
_DESTINATIONS = {
    name: Destination(name=name, ae_title=name.upper(), host="127.0.0.1", port=104)
    for name in ("near", "far")
}


SHARED = ["sr", "other", "seg-labelmap"]
HOUR = timedelta(hours=1)


class Rig(StateRig):
    """A delivery worker over a real state file, with a job that has results."""

    def __init__(self, database: Database, make: Make, folder: Path) -> None:
        super().__init__(database)
        self.deliveries = DeliveryStore(database)
        self.folder = folder
        self.make = make
        self.job = self.compose(1)

    def compose(
        self, number: int, roles: Sequence[str] = ("seg", "sr"), *, series: str = "1.2.3"
    ) -> Job:
        self.instances.record(self.make(number, series=series))
        claimed = self.claim(series)
        for role in roles:
            (self.folder / f"{role}.dcm").write_bytes(role.encode())
        objects = [
            {
                "role": role,
                "path": str(self.folder / f"{role}.dcm"),
                "sop_class_uid": "1.2.840.10008.5.1.4.1.1.66.4",
                "sop_instance_uid": f"2.25.{number}{suffix}",
                "series_uid": "2.25.7",
                "study_uid": "1.2",
                "digest": sha256(role.encode()).hexdigest(),
                "size": len(role),
            }
            for suffix, role in enumerate(roles, start=1)
        ]
        self.jobs.composed(claimed, key="k", result={"objects": objects}, at=NOON, message="ok")
        return self.jobs.get(claimed.id)

    def worker(self, sender: FakeSender, *names: str) -> DeliveryWorker:
        return DeliveryWorker(
            jobs=self.jobs,
            deliveries=self.deliveries,
            destinations={name: _DESTINATIONS[name] for name in names},
            sender=sender,
            back_off=BackOff(
                first=timedelta(seconds=5),
                longest=timedelta(seconds=60),
                give_up_after=timedelta(hours=1),
            ),
            clock=self.clock,
        )

    def state(self) -> JobState:
        return self.jobs.get(self.job.id).state


@pytest.fixture
def rig(database: Database, make_instance: Make, tmp_path: Path) -> Rig:
    return Rig(database, make_instance, tmp_path)


def test_every_object_goes_to_every_destination_seg_first(rig: Rig) -> None:
    sender = FakeSender()
    step_all(rig.worker(sender, "near", "far"), NOON)
    assert sender.sent == [("near", "seg"), ("near", "sr"), ("far", "seg"), ("far", "sr")]
    assert rig.state() is JobState.DONE


def test_without_a_destination_the_results_stay_and_the_job_is_done(rig: Rig) -> None:
    step_all(rig.worker(FakeSender()), NOON)
    assert rig.state() is JobState.DONE
    assert rig.jobs.get(rig.job.id).message == "no destination is configured"


def test_a_retry_goes_to_the_destinations_that_were_configured_since(rig: Rig) -> None:
    step_all(rig.worker(FakeSender()), NOON)
    assert rig.state() is JobState.DONE
    retry(rig.jobs, rig.jobs.get(rig.job.id), at=NOON)
    sender = FakeSender({"near": [_NO]})
    step_all(rig.worker(sender, "near"), NOON)
    assert rig.state() is JobState.FAILED
    retry(rig.jobs, rig.jobs.get(rig.job.id), at=NOON)
    step_all(rig.worker(sender, "near", "far"), NOON)
    assert sender.sent == [(to, role) for to in ("near", "near", "far") for role in ("seg", "sr")]
    assert rig.state() is JobState.DONE


def test_a_busy_destination_is_tried_again_with_growing_pauses(rig: Rig) -> None:
    sender = FakeSender({"near": [_BUSY, _BUSY]})
    worker = rig.worker(sender, "near")
    assert step_all(worker, NOON) == NOON + timedelta(seconds=5)
    assert step_all(worker, rig.clock.advance(4)) == NOON + timedelta(seconds=5)
    assert len(sender.sent) == 2
    assert step_all(worker, rig.clock.advance(1)) == NOON + timedelta(seconds=15)
    step_all(worker, rig.clock.advance(10))
    assert rig.state() is JobState.DONE
    assert [one.attempts for one in rig.deliveries.of_job(rig.job.id)] == [3, 3]


def test_a_refusal_ends_the_job_failed_and_the_other_destination_still_gets_it(rig: Rig) -> None:
    worker = rig.worker(FakeSender({"near": [_NO]}), "near", "far")
    step_all(worker, NOON)
    job = rig.jobs.get(rig.job.id)
    assert (job.state, job.reason) == (JobState.FAILED, "delivery-refused")
    assert "near refused the seg" in job.message
    states = [(one.destination, one.state) for one in rig.deliveries.of_job(job.id)]
    assert states == [
        ("near", DeliveryState.REFUSED),
        ("near", DeliveryState.REFUSED),
        ("far", DeliveryState.DELIVERED),
        ("far", DeliveryState.DELIVERED),
    ]


def test_a_destination_that_never_answers_is_given_up_in_the_end(rig: Rig) -> None:
    worker = rig.worker(FakeSender({"near": [_BUSY] * 100}), "near")
    step_all(worker, NOON)
    step_all(worker, rig.clock.advance(3601))
    job = rig.jobs.get(rig.job.id)
    assert job.state is JobState.FAILED
    assert "given up: full" in job.message


def test_a_destination_that_left_the_configuration_is_told_so(rig: Rig) -> None:
    step_all(rig.worker(FakeSender({"near": [_BUSY]}), "near"), NOON)
    step_all(rig.worker(FakeSender(), "far"), rig.clock.advance(5))
    assert "no destination 'near'" in rig.jobs.get(rig.job.id).message


def test_results_of_fewer_images_than_arrived_are_not_delivered(rig: Rig) -> None:
    rig.instances.record(rig.make(2))
    sender = FakeSender()
    step_all(rig.worker(sender, "near"), NOON)
    assert rig.state() is JobState.SUPERSEDED
    assert sender.sent == []


def test_the_pause_never_passes_the_longest() -> None:
    back_off = BackOff(
        first=timedelta(seconds=5), longest=timedelta(seconds=60), give_up_after=timedelta(1)
    )
    assert [back_off.delay(n).total_seconds() for n in (1, 2, 3, 5, 500)] == [5, 10, 20, 60, 60]


_BOTH = ("seg", "seg-lesions", "sr")
_ALL_PROFILES = (
    *_BOTH,
    "seg-labelmap",
    "seg-lesions-labelmap",
    "sr-labelmap",
    "sr-slicer",
    "seg-1-weasis",
    "seg-2-weasis",
    "sr-weasis",
    "sr-plain",
)


@pytest.mark.parametrize(
    ("composed", "profile", "far"),
    [
        (
            _ALL_PROFILES,
            Profile.LABELMAP,
            ["seg-labelmap", "seg-lesions-labelmap", "sr-labelmap"],
        ),
        (_ALL_PROFILES, Profile.SLICER, ["seg", "seg-lesions", "sr-slicer"]),
        (
            _ALL_PROFILES,
            Profile.WEASIS,
            ["seg-lesions", "seg-1-weasis", "seg-2-weasis", "sr-weasis"],
        ),
        (_ALL_PROFILES, Profile.PLAIN, ["sr-plain"]),
        *((_BOTH, profile, list(_BOTH)) for profile in Profile),
        ((*_BOTH, "seg-lesions-1-weasis", "sr-weasis"), Profile.WEASIS,
         ["seg", "seg-lesions-1-weasis", "sr-weasis"]),
        (("seg", "sr", "other", "seg-labelmap"), Profile.LABELMAP, SHARED),
    ],
)  # fmt: skip
def test_each_destination_gets_the_objects_of_its_profile(
    composed: tuple[str, ...], profile: Profile, far: list[str], rig: Rig
) -> None:
    """Results from before a profile was configured go out as for OHIF."""
    job = rig.compose(2, composed)
    worker = DeliveryWorker(
        jobs=rig.jobs,
        deliveries=rig.deliveries,
        destinations={
            "near": _DESTINATIONS["near"],
            "far": replace(_DESTINATIONS["far"], profile=profile),
        },
        sender=FakeSender(),
        back_off=BackOff(first=HOUR, longest=HOUR, give_up_after=HOUR),
        clock=rig.clock,
    )
    step_all(worker, NOON)
    got: dict[str, list[str]] = {"near": [], "far": []}
    for delivery in rig.deliveries.of_job(job.id):
        assert delivery.state is DeliveryState.DELIVERED
        got[delivery.destination].append(delivery.role)
    near = [role for role in composed if not any(other.owns(role) for other in Profile)]
    assert got == {"near": near, "far": far}


def test_a_new_report_replaces_that_which_its_destination_has(rig: Rig) -> None:
    """Results from before a profile was configured went out as for OHIF."""
    references = sr_references(rig.compose(2, ("seg", "sr", "sr-slicer")))
    assert references.pop(Profile.SLICER) != references[Profile.OHIF]
    assert set(references.values()) == {references[Profile.OHIF]}
    assert set(references) == set(Profile) - {Profile.SLICER}
    assert sr_references(rig.compose(3, ("other",))) == {}


_CAPTURE = replace(_DESTINATIONS["near"], fallback=(Extra.SECONDARY_CAPTURE,))
_ALL = ("seg", "sr", "secondary-capture", "encapsulated-pdf")


def with_extras(rig: Rig, sender: FakeSender, near: Destination) -> DeliveryWorker:
    """Return a worker with two destinations, of which ``near`` asks for more than SEG and SR."""
    return DeliveryWorker(
        jobs=rig.jobs,
        deliveries=rig.deliveries,
        destinations={"near": near, "far": _DESTINATIONS["far"]},
        sender=sender,
        back_off=BackOff(first=HOUR, longest=HOUR, give_up_after=HOUR),
        clock=rig.clock,
    )


def states_of(rig: Rig, job: Job, destination: str) -> dict[str, DeliveryState]:
    rows = rig.deliveries.of_job(job.id)
    return {one.role: one.state for one in rows if one.destination == destination}


def test_an_extra_goes_where_it_is_asked_for_only(rig: Rig) -> None:
    job = rig.compose(2, _ALL)
    near = replace(_DESTINATIONS["near"], extras=(Extra.ENCAPSULATED_PDF, Extra.KEY_OBJECTS))
    step_all(with_extras(rig, FakeSender(), near), NOON)
    assert list(states_of(rig, job, "near")) == ["seg", "sr", "encapsulated-pdf"]
    assert list(states_of(rig, job, "far")) == ["seg", "sr"]


def test_a_refused_seg_is_replaced_once_and_the_job_is_done(rig: Rig) -> None:
    job = rig.compose(2, _ALL)
    taken = Outcome(kind=OutcomeKind.DELIVERED, status=0, message="stored")

    class Refuses(FakeSender):
        """Refuses every SEG of one destination."""

        def __call__(
            self, objects: Sequence[ResultObject], destination: Destination
        ) -> Sequence[Outcome]:
            super().__call__(objects, destination)
            seg = destination.name == "near"
            return [_NO if seg and item.role == "seg" else taken for item in objects]

    sender = Refuses()
    worker = with_extras(rig, sender, _CAPTURE)
    step_all(worker, NOON)
    assert rig.jobs.get(job.id).state is JobState.DELIVERING
    # Another process goes on after a restart.
    step_all(with_extras(rig, sender, _CAPTURE), rig.clock.advance(1))
    assert states_of(rig, job, "near") == {
        "seg": DeliveryState.REPLACED,
        "sr": DeliveryState.DELIVERED,
        "secondary-capture": DeliveryState.DELIVERED,
    }
    assert set(states_of(rig, job, "far")) == {"seg", "sr"}
    ended = rig.jobs.get(job.id)
    assert (ended.state, ended.message) == (
        JobState.DONE,
        "delivered; a destination that refused the SEG got its configured fallback",
    )
    assert sender.sent.count(("near", "secondary-capture")) == 1


@pytest.mark.parametrize(
    "outcome",
    [
        replace(_NO, status=None, message="wrong title", reached=False),
        Outcome(kind=OutcomeKind.FAILED, status=0xA700, message="full"),
    ],
    ids=["no association", "busy"],
)
def test_nothing_replaces_a_seg_that_the_destination_did_not_refuse(
    rig: Rig, outcome: Outcome
) -> None:
    job = rig.compose(2, _ALL)
    step_all(with_extras(rig, FakeSender({"near": [outcome] * 2}), _CAPTURE), NOON)
    assert set(states_of(rig, job, "near")) == {"seg", "sr"}


def test_where_there_is_nothing_in_its_place_the_refusal_stands(rig: Rig) -> None:
    job = rig.compose(2)  # composed before a fallback was configured
    step_all(with_extras(rig, FakeSender({"near": [_NO]}), _CAPTURE), NOON)
    assert states_of(rig, job, "near")["seg"] is DeliveryState.REFUSED
    assert rig.jobs.get(job.id).state is JobState.FAILED
