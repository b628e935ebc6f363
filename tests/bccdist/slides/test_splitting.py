"""Patients are dealt out whole, by the shares, alike in their labels, and the same for the same seed."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bccdist.parts import Part
from bccdist.slides.splitting import PatientSlides, split_by_patient

SHARES = {Part.TRAINING: 0.5, Part.VALIDATION_1: 0.1, Part.VALIDATION_2: 0.2, Part.TEST: 0.2}
PATIENT = st.builds(
    PatientSlides,
    patient=st.text(min_size=1, max_size=5),
    num_slides=st.integers(1, 6),
    stratum=st.sampled_from(["Tumor", "Normal", ""]),
    is_annotated=st.booleans(),
)
PATIENTS = st.lists(PATIENT, max_size=60, unique_by=lambda each: each.patient)


def patient(name: str, stratum: str = "", *, num_slides: int = 1, is_annotated: bool = True) -> PatientSlides:
    return PatientSlides(patient=name, num_slides=num_slides, stratum=stratum, is_annotated=is_annotated)


@given(patients=PATIENTS, seed=st.integers(0, 9))
def test_each_patient_has_one_part_that_it_may_be_in_whatever_the_order(
    patients: list[PatientSlides], seed: int
) -> None:
    parts = split_by_patient(patients, SHARES, seed=seed)
    assert set(parts) == {each.patient for each in patients}
    assert all(each.is_annotated or not parts[each.patient].is_annotated for each in patients)
    assert split_by_patient(patients[::-1], SHARES, seed=seed) == parts


@given(num=st.integers(0, 80), seed=st.integers(0, 9))
def test_shares_hold_to_a_patient_overall_and_in_each_stratum(num: int, seed: int) -> None:
    patients = [patient(f"p{number}", ("Tumor", "Normal", "Normal")[number % 3]) for number in range(num)]
    parts = split_by_patient(patients, SHARES, seed=seed)
    for stratum in ("Tumor", "Normal"):
        members = [each.patient for each in patients if each.stratum == stratum]
        counts = Counter(parts[name] for name in members)
        assert all(abs(counts[part] - share * len(members)) <= 2 for part, share in SHARES.items())
    assert all(abs(Counter(parts.values())[part] - share * num) <= 2 for part, share in SHARES.items())


def test_another_seed_deals_otherwise() -> None:
    patients = [patient(f"p{number}") for number in range(40)]
    assert split_by_patient(patients, SHARES, seed=0) != split_by_patient(patients, SHARES, seed=1)


def test_a_part_without_a_share_gets_nobody() -> None:
    patients = [patient(f"p{number}", is_annotated=number % 2 == 0) for number in range(20)]
    shares = {Part.TRAINING: 0.0, Part.VALIDATION_1: 0.0, Part.VALIDATION_2: 0.0, Part.TEST: 1.0}
    assert set(split_by_patient(patients, shares, seed=0).values()) == {Part.TEST}


def test_annotated_patients_make_up_for_those_that_cannot_be_trained_on() -> None:
    patients = [patient(f"p{number}", is_annotated=number < 60) for number in range(100)]
    counts = Counter(split_by_patient(patients, SHARES, seed=0).values())
    assert counts == {Part.TRAINING: 50, Part.VALIDATION_1: 10, Part.VALIDATION_2: 20, Part.TEST: 20}
