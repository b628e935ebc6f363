"""A site's thresholds lie in a small sealed file beside the model file, which stays as it is."""

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cohort import write_model_file

from bccdist.errors import ModelError
from bccdist.models.cohort import require_place_for, unpack_model
from bccdist.models.model_file import ModelFile, read_model
from bccdist.paths import StudyPaths
from bccdist.sections.choices import read_choices
from bccdist.sections.site_choice import SiteChoice


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    return write_model_file(tmp_path_factory.mktemp("model"))


def site_for(model: ModelFile) -> SiteChoice:
    return SiteChoice(
        model_digest=model.digest,
        site="lab2",
        t_p=0.3,
        t_a_um2=2560.0,
        area_unit="physical",
        labels_digest="0123456789ab",
        num_sections=80,
        num_slides=20,
        figures={"before": {"sensitivity": [0.5, 0.4, 0.6]}, "after": {"sensitivity": [0.9, 0.8, 0.95]}},
        made_by="1",
    )


def test_what_is_written_is_read_again(model: ModelFile, tmp_path: Path) -> None:
    path = tmp_path / "lab2.site.json"
    digest = site_for(model).write(path)
    assert len(digest) == 12
    assert SiteChoice.read(path) == site_for(model)


def test_a_cohort_judges_by_the_sites_thresholds_with_the_figures_of_their_cell(
    model: ModelFile, tmp_path: Path
) -> None:
    digest = site_for(model).write(tmp_path / "site.json")
    before = model.path.read_bytes()
    unpack_model(model, tmp_path / "cohort", site_choice=tmp_path / "site.json")
    paths = StudyPaths(tmp_path / "cohort")
    (choice,) = read_choices(paths)
    assert (choice.t_p, choice.t_a_um2, choice.site_choice) == (0.3, 2560.0, digest)
    (row,) = pq.read_table(paths.selection).to_pylist()
    cells = [each for each in pq.read_table(paths.grid).to_pylist() if each["epoch"] == row["epoch"]]
    (cell,) = [each for each in cells if (each["t_p"], each["t_a_um2"]) == (0.3, 2560.0)]
    assert {name: row[name] for name in cell} == cell
    assert model.path.read_bytes() == before == paths.model.read_bytes()


def test_the_sites_thresholds_stay_where_the_model_is_applied_again(model: ModelFile, tmp_path: Path) -> None:
    site_for(model).write(tmp_path / "site.json")
    unpack_model(model, tmp_path / "cohort", site_choice=tmp_path / "site.json")
    unpack_model(model, tmp_path / "cohort")
    assert read_choices(StudyPaths(tmp_path / "cohort"))[0].t_p == 0.3


def test_another_choice_of_the_site_takes_the_place_of_the_first(model: ModelFile, tmp_path: Path) -> None:
    site_for(model).write(tmp_path / "site.json")
    replace(site_for(model), t_p=0.7).write(tmp_path / "other.json")
    unpack_model(model, tmp_path / "cohort")
    assert read_choices(StudyPaths(tmp_path / "cohort"))[0].site_choice == ""
    for name, t_p in (("site.json", 0.3), ("other.json", 0.7)):
        unpack_model(model, tmp_path / "cohort", site_choice=tmp_path / name)
        assert read_choices(StudyPaths(tmp_path / "cohort"))[0].t_p == t_p


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model_digest": "ba9876543210"}, "was made for the model ba9876543210"),
        ({"t_p": 0.33}, "are none of those that"),
        ({"t_a_um2": 1.0}, "are none of those that"),
        ({"area_unit": "nominal"}, "are none of those that"),
    ],
)
def test_a_choice_that_does_not_fit_the_model_is_refused_and_makes_no_cohort(
    model: ModelFile, tmp_path: Path, changes: dict[str, object], why: str
) -> None:
    replace(site_for(model), **changes).write(tmp_path / "site.json")
    with pytest.raises(ModelError, match=why):
        unpack_model(model, tmp_path / "cohort", site_choice=tmp_path / "site.json")
    assert not (tmp_path / "cohort").exists()


def test_each_damage_to_the_file_is_refused(model: ModelFile, tmp_path: Path) -> None:
    path = tmp_path / "site.json"
    site_for(model).write(path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ModelError):
            SiteChoice.read(path)


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "no site's choice there"), ("{}", "holds no SHA-256"), ("", "holds no SHA-256"), ("nonsense", "SHA-256")],
)
def test_what_is_no_choice_of_a_site_is_said_to_be_none(tmp_path: Path, content: str | None, why: str) -> None:
    path = tmp_path / "site.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=why):
        SiteChoice.read(path)


def test_thresholds_that_somebody_wrote_over_the_sites_are_found(model: ModelFile, tmp_path: Path) -> None:
    site_for(model).write(tmp_path / "site.json")
    unpack_model(model, tmp_path / "cohort", site_choice=tmp_path / "site.json")
    paths = StudyPaths(tmp_path / "cohort")
    shutil.copy(paths.grid, paths.selection)
    with pytest.raises(ModelError, match="changed after it was unpacked"):
        require_place_for(read_model(paths.model), paths.root)
