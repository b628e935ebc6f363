"""What the words of the page mean: each is explained in the part where it comes first, and all of them at the end."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from analysis.page.blocks import GalleryBlock, PictureBlock, Section, TableBlock, Term

TITLE = "Terms"
_TERMS = {
    Term(name=name, meaning=meaning): re.compile(pattern)
    for name, pattern, meaning in (
        (
            "the paper",
            r"\b[Pp]aper\b|\(section \d\.\d\)",
            (
                "Le'Clerc Arrastia et al. 2021, Deeply supervised UNet for semantic segmentation to assist "
                "dermatopathological assessment of Basal Cell Carcinoma; Tables 1 to 5, Figures 2 to 8 and sections "
                "in brackets are numbered as there"
            ),
        ),
        ("section", r"\b[Ss]ections?\b", "one connected piece of tissue on a slide; the unit of a verdict"),
        (
            "setting",
            r"\b[Ss]etting\b|\b(unet|resnet34\w*)\b",
            (
                "a network with its loss: unet, resnet34, resnet34_ds (a loss at each decoder block), resnet34_linear "
                "(a loss on their weighted sum)"
            ),
        ),
        ("epoch", r"\bepoch\b", "one pass of the training over its patches; the network is that of one epoch"),
        ("t_p", r"\bt_p\b", "prediction threshold: from this tumor probability on a pixel counts as tumor"),
        (
            "t_A",
            r"\bt_A\b",
            (
                "area threshold: a section is called Tumor if one connected region of such pixels is at least as "
                "large; in um2, square micrometres"
            ),
        ),
        ("psi", r"\bpsi(_\d)?\b", "an output of the network: psi_0 (coarsest) to psi_4 (finest), one a decoder block"),
        (
            "F_1.5",
            r"\bF_(beta|\d[\d.]*\d)|\bF difference\b",
            (
                "F_beta, here of beta 1.5: one number of sensitivity and precision in which a missed Tumor section "
                "weighs 2.25 times a false alarm"
            ),
        ),
        (
            "TP, FN, FP, TN",
            r"\b(TP|FN|FP|TN)\b",
            (
                "labelled Tumor and called so, labelled Tumor and missed, labelled Normal and called Tumor (false "
                "alarm), labelled Normal and called so"
            ),
        ),
        ("sensitivity", r"\bsensitivity\b", "share of the sections labelled Tumor that are called Tumor"),
        ("specificity", r"\bspecificity\b", "share of the sections labelled Normal that are called Normal"),
        (
            "review",
            r"\breview\b",
            (
                "the verdict on a section that shows no tumor, and whose tissue was not read whole or is not "
                "assessable: a person has to look"
            ),
        ),
        (
            "interval",
            r"\binterval|\bresampl",
            'two numbers with "to" between: of 100 intervals made so, about 95 hold the true figure',
        ),
        (
            "PPV, NPV",
            r"\b(PPV|NPV)\b",
            "share of Tumor among what is called Tumor, and of Normal among what is called so",
        ),
        ("LR+, LR-", r"\bLR[+-]", "how many times likelier a verdict of Tumor, or of Normal, is on a Tumor section"),
        ("prevalence", r"\bprevalence", "share of Tumor among the sections"),
        ("kappa", r"\b[Kk]appa\b", "agreement of two readers beyond chance: 1 is complete, 0 is chance"),
        ("IoU", r"\bIoU\b", "intersection over union of found and annotated tumor: 1 is the same area, 0 no overlap"),
        ("ROC", r"\bROC\b", "sensitivity against the share of false alarms over all thresholds; an area of 1 is best"),
        ("flip shift", r"\bflip shift", "the smallest shift of all probabilities that would change a verdict"),
        (
            "certified",
            r"\bcertified\b",
            "reached by a faster arithmetic, from which the verdict of the exact one follows at the confidence named",
        ),
        ("triage", r"\b[Tt]riage\b", "sorting out sections by the model alone, at a promised rate of missed tumor"),
        ("pre-filled", r"\b[Pp]re-?fill", "labels that a reader was shown, to correct, before giving an own one"),
        ("margin", r"\b[Mm]argins?\b", "distance of predicted tumor to the edge of the tissue found on the slide"),
    )
}


def with_terms(sections: Sequence[Section]) -> list[Section]:
    """The parts of the page, each with the terms that come there first; the last but one lists all of them."""
    explained: list[Section] = []
    known: set[str] = set()
    for section in sections:
        texts = list(_texts(section))
        new = [term for term, used in _TERMS.items() if term.name not in known and any(map(used.search, texts))]
        known |= {term.name for term in new}
        explained.append(replace(section, terms=new))
    rows = [[term.name, term.meaning] for term in _TERMS if term.name in known]
    glossary = Section(
        title=TITLE, blocks=[TableBlock(title="Terms of this page.", heading=["term", "meaning"], rows=rows)]
    )
    return [*explained[:-1], glossary, *explained[-1:]]


def _texts(section: Section) -> Iterator[str]:
    """What a reader meets in a part, but not what stands in the cells of its tables."""
    yield from (*section.lines, *section.warnings, *(number.name for number in section.numbers))
    for block in section.blocks:
        if isinstance(block, TableBlock):
            yield from (block.title, *block.heading, *block.notes)
        elif isinstance(block, PictureBlock):
            yield block.caption
        elif isinstance(block, GalleryBlock):
            yield from (block.title, *(line for tile in block.tiles for line in tile.lines))
