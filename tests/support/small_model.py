"""A packed model of width 4 that was never trained, with slides to try it on and the study that it left."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from heatmap_slides import pink_picture, write_slide
from model_study import EPOCH, SETTING, write_model_study

from bccdist.configuration import InferConfig
from bccdist.models.packing import pack_model
from bccdist.paths import StudyPaths
from bccdist.phantom.pyramid import write_pyramid
from bccdist.slides.manifest import read_manifest
from bccdist.stages.epochs import infer_slides
from bccdist.study import keep_manifest

ISLANDS = [(100, 100, 300, 330), (800, 60, 290, 400)]


@dataclass(frozen=True)
class SmallModel:
    """A folder with `bcc.model`, the slide `slide.svs` with two sections, and `studies/bcc`, which the model left."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "bcc.model"

    @property
    def slide(self) -> Path:
        return self.folder / "slide.svs"

    @property
    def drawn(self) -> Path:
        """A phantom."""
        return self.folder / "phantom.tif"

    @property
    def study(self) -> StudyPaths:
        return StudyPaths(self.folder / "studies" / "bcc")

    @property
    def manifest(self) -> Path:
        """The study's slides, which are `slide` and `phantom`."""
        return self.folder / "slides.csv"

    def infer(self) -> None:
        """Let the study's own stage judge its slides."""
        infer_slides(
            self.manifest, ["slide", "phantom"], self.study.root, SETTING, [EPOCH], InferConfig(), num_workers=0
        )


def write_small_model(folder: Path, *, phantom: bool = False) -> SmallModel:
    """Make the study, pack it, and draw the slides."""
    model = SmallModel(folder)
    write_model_study(model.study.root, phantom=phantom)
    pack_model(model.study.root, model.path)
    write_slide(model.slide, pink_picture(1200, 520, islands=ISLANDS))
    picture = pink_picture(1024, 512, islands=[(90, 80, 350, 330)])
    write_pyramid(model.drawn, picture, mpp=0.92, tile_px=256, jpeg_quality=90, description="a phantom")
    # From here on the study has these two slides alone, and no rows yet.
    lines = ["slide_id,part,path,scanner", "slide,test,slide.svs,", "phantom,test,phantom.tif,phantom"]
    model.manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    keep_manifest(model.study.root, read_manifest(model.manifest))
    shutil.rmtree(model.study.ledger)
    return model
