"""A study with two settings, several outputs, patients, groups, gaps in labels and reading, a report and a job log."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from journal_entry import ENTRY
from study_folders import flat_curve, ledger_row, write_study

from analysis.page.report import write_report
from analysis.review.answers import Answer, GivenAnswer, GivenAs, Withdrawal
from analysis.review.journal import Journal
from analysis.study_evidence.evidence import Evidence
from analysis.study_evidence.relabel import relabel
from analysis.tables.sample_size import write_sample_size
from analysis.tables.selection import select_thresholds
from bccdist.configuration import SelectConfig
from bccdist.files import write_json
from bccdist.paths import StudyPaths
from bccdist.slides.quality_measures import MEASURES
from jobs.slurm import journal

PATIENT = "Anna-Vogel-1961"
SETTINGS = ("unet", "resnet34_ds")
_OUTPUTS = {"unet": ("psi_4",), "resnet34_ds": ("psi_3", "psi_4")}


def write_evidence_study(
    root: Path,
    *,
    is_labelled: bool = True,
    is_phantom: bool = False,
    is_certified: bool = False,
    is_read: bool = False,
    seed: int = 0,
) -> StudyPaths:
    """The study with its report, below `root`, where the manifest lies, too.

    Args:
        root: an empty folder.
        is_labelled: whether sections of Test have labels.
        is_phantom: whether slides are drawn.
        is_certified: whether a fast way reached the verdicts on Test.
        is_read: whether two readers labelled Test again, in files and in a review, a third decided between them, a
            goal was stated, and quality was measured.
        seed: of what the network sees.
    """
    paths = StudyPaths(root / "study")
    digests = {}
    for setting in SETTINGS:
        weights = paths.run(setting).weights(1)
        weights.parent.mkdir(parents=True)
        weights.write_bytes(f"the weights of {setting}".encode())
        digests[setting] = hashlib.sha256(weights.read_bytes()).hexdigest()[:12]
    marks = {"phantom": is_phantom, "phantom_weights": is_phantom}
    num = 6 if is_read else 4
    rows = list(_rows(digests, np.random.default_rng(seed), num_validation_2=num, is_labelled=is_labelled, **marks))
    if is_read:
        rows = [{**row, **_measured(row["section_id"])} for row in rows]
    write_study(paths.root, rows)
    _write_manifest(root, rows, is_phantom=is_phantom)
    if is_read:
        _read_again(root, paths)
    select_thresholds(paths.root, SelectConfig())
    if is_certified:
        write_study(paths.root, map(_certified(paths), rows))
    if is_read:
        # The second goal takes the place of the first.
        write_sample_size(Evidence(paths.root), goal_sensitivity=0.9, goal_width=0.4)
        write_sample_size(Evidence(paths.root), goal_sensitivity=0.8, goal_specificity=0.7, goal_width=0.3)
    write_report(Evidence(paths.root))
    for job_id in "5678":
        journal.append(paths.journal, ENTRY if job_id == "7" else _entry(root, job_id))
        journal.append_ending(paths.journal, job_id, "done")
    return paths


def _read_again(root: Path, paths: StudyPaths) -> None:
    """Two readers' files, journals of a review with what is taken back, and decisions."""
    sections = [(f"test-0-{slide}", f"test-0-{slide}-s{number}") for slide in range(6) for number in range(4)]
    answers = ["Tumor", "Normal", "Normal", "Tumor", ""]
    for reader, step in (("anna", 1), ("ben", 3)):
        lines = [f"{s},{k},{answers[at * step % 5]},{reader},2026-0{step}-01" for at, (s, k) in enumerate(sections)]
        heading = "slide_id,section_id,label,labelled_by,labelled_at"
        (root / f"{reader}.csv").write_text("\n".join([heading, *lines]) + "\n", encoding="utf-8")
    relabel(paths.root, root / "anna.csv", root / "ben.csv", remove_labels=True)
    for reader, shift in (("carla", 0), ("dora", 1)):
        with Journal(paths, reader) as journal:
            for at, (slide_id, section_id) in enumerate(sections[:10]):
                answer = Answer(("Tumor", "Normal", "unsure")[(at * (shift + 1)) % 3])
                journal.add(_given(slide_id, section_id, answer, was_shown=at % 2 == shift, entry=f"{reader}-{at}"))
            # The first answer was wrong and is taken back, the second one corrected.
            journal.add(Withdrawal(at=_NOW, withdrawn=(f"{reader}-0",)))
            journal.add(_given(*sections[1], Answer.TUMOR, was_shown=True, entry=f"{reader}-again"))
    with Journal(paths, "eve") as journal:
        journal.add(_given(*sections[2], Answer.NORMAL, was_shown=False, entry="eve-0", given_as=GivenAs.DECISION))
    rows = [
        f"{slide_id},{section_id},{label},{by},2026-05-01,{conflict},{origin}"
        for (slide_id, section_id), label, by, conflict, origin in (
            (sections[2], "Normal", "eve", "carla: unsure; dora: Normal", "decided"),
            (sections[3], "", "eve", "carla: Tumor; dora: Normal", "decided"),
            (sections[4], "Normal", "carla", "", "one reader"),
        )
    ]
    heading = "slide_id,section_id,label,labelled_by,labelled_at,conflict,label_origin"
    (root / "decided.csv").write_text("\n".join([heading, *rows]) + "\n", encoding="utf-8")
    relabel(paths.root, root / "decided.csv", remove_labels=True)


_NOW = "2026-04-01T00:00:00.000+00:00"


def _given(slide_id: str, section_id: str, answer: Answer, **changes: Any) -> GivenAnswer:
    plain: dict[str, Any] = {
        "at": _NOW,
        "comment": f"of {PATIENT}",
        "seconds": 2.0,
        "is_blind": True,
        "prefilled": "",
        "prediction": "Tumor",
        "label_before": None,
        "setting": "unet",
        "epoch": 1,
        "weights_digest": "0" * 12,
    }
    return GivenAnswer(slide_id=slide_id, section_id=section_id, answer=answer, **plain, **changes)


def _certified(paths: StudyPaths) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Makes most rows of Test certified at the chosen thresholds, and some that were checked."""
    choices = pd.read_parquet(paths.selection).set_index("setting")

    def certified(row: dict[str, Any]) -> dict[str, Any]:
        if row["part"] != "Test":
            return row
        choice = choices.loc[row["setting"]]
        is_checked = row["section_id"].endswith("s1")
        return {
            **row,
            "reached_by": "checked" if is_checked else "certified",
            "levels_apart": (12 if row["slide_id"].endswith("3") else 4) if is_checked else None,
            "certificate_levels": 9,
            "certificate_confidence": 0.9,
            "certificate_num_slides": 30,
            "certificate_t_p": float(choice["t_p"]),
            "certificate_t_a_um2": float(choice["t_a_um2"]),
            "certificate_area_unit": "physical",
        }

    return certified


def _entry(root: Path, job_id: str) -> journal.JournalEntry:
    command = ("jobs/launch_infer.py", "--study", str(root / "study"), f"--slides={root}/{PATIENT}.svs", "--cpus", "4")
    values = {**vars(ENTRY), "job_id": job_id, "command": command, "folder": str(root), "user": "dr-vogel"}
    return journal.JournalEntry(**values)


def _measured(section_id: str) -> dict[str, Any]:
    """Measures of quality and features, of all but some sections."""
    random = np.random.default_rng(list(section_id.encode()))
    if section_id == "test-0-1-s2":
        return {}
    values = {name: float(np.float32(random.normal(0.1, 0.2))) for name in MEASURES}
    return {**values, "features": [float(np.float32(each)) for each in random.normal(0, 1, 5)]}


def _rows(
    digests: dict[str, str],
    random: np.random.Generator,
    *,
    num_validation_2: int,
    is_labelled: bool,
    **marks: bool,
) -> Iterator[Any]:
    """Four sections a slide, of which some are judged wrongly, not read whole or not labelled."""
    for part, num_slides in (("Validation I", 3), ("Validation II", num_validation_2), ("Test", 9)):
        for number in range(4 * num_slides):
            slide = f"{part.split()[0].lower()}-{part.count('I')}-{number // 4}"
            is_tumor = bool(random.random() < 0.5)
            label = None if part == "Test" and (number % 11 == 7 or not is_labelled) else ["Normal", "Tumor"][is_tumor]
            coverage = 0.5 if number % 13 == 5 else 1.0
            for setting, outputs in _OUTPUTS.items():
                for psi in outputs:
                    top = int(np.clip(random.normal(190 if is_tumor else 90, 70), 1, 255))
                    yield ledger_row(
                        slide_id=slide,
                        section_id=f"{slide}-s{number % 4}",
                        part=part,
                        setting=setting,
                        psi=psi,
                        is_final=psi == "psi_4",
                        label=label,
                        coverage=coverage,
                        tissue_um2=1e6 * (1 + number % 5),
                        largest_region_px=flat_curve(top_step=top, num_px=int(random.integers(100, 90_000))),
                        mpp=float(random.choice([0.46, 0.5])),
                        read_s=float(number // 4),
                        weights_digest=digests[setting],
                        why_openslide=f"no tiles in /data/{PATIENT}.svs" if number == 3 else "",
                        slide_fingerprint=f"{number // 4:012x}",
                        **marks,
                    )


def _write_manifest(root: Path, rows: list[dict[str, Any]], *, is_phantom: bool) -> None:
    slides = list(dict.fromkeys((row["slide_id"], row["part"]) for row in rows))
    scanner = "phantom" if is_phantom else "scanner {}"
    lines = [
        f"{slide},{part},/data/{PATIENT}/{slide}.svs,{slide}.geojson,{PATIENT}-{part[-4:]}-{place // 2},"
        f"{scanner.format(place % 2)},{'north' if place % 3 else 'south'},{PATIENT}"
        for place, (slide, part) in enumerate(slides)
    ]
    lines.append(f"test-lost,Test,/data/{PATIENT}/lost.svs,,{PATIENT}-lost,scanner 0,north,{PATIENT}")
    lines.append(f"train-0,Training,/data/{PATIENT}/train.svs,train.geojson,{PATIENT}-train,scanner 0,north,{PATIENT}")
    heading = "slide_id,part,path,annotation,patient_id,scanner,site,note"
    (root / "slides.csv").write_text("\n".join([heading, *lines]) + "\n", encoding="utf-8")
    sections = {(row["slide_id"], row["section_id"]): row["label"] or "" for row in rows}
    lines = [f"{slide},{section},{label},0,0,100,100" for (slide, section), label in sections.items()]
    heading = "slide_id,section_id,label,x_level0_px,y_level0_px,width_level0_px,height_level0_px"
    (root / "sections.csv").write_text("\n".join([heading, *lines]) + "\n", encoding="utf-8")
    write_json(root / "study" / "study.json", {"manifest": str(root / "slides.csv"), "phantom": is_phantom})
