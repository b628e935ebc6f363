"""What reporting guidelines of a journal ask, item by item in our own words, with numbers for three of them.

The numbers were not checked against the published lists, and that of CLAIM could not be found, so the table says that
they are ours.

They are STARD-AI (Sounderajah et al. 2025), CLAIM (Tejani et al. 2024) and TRIPOD+AI (Collins et al. 2024). A study
answers some items by itself; all others, and what is left of those that it answers in part, are for the authors.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing that is asked."""

    topic: str
    stard_ai: str = ""
    """Its numbers there, with ', ' between; empty where the guideline does not ask for it."""
    claim: str = ""
    tripod_ai: str = ""
    where: str = ""
    """The part of the report that answers it."""
    answer: str = ""
    """The fact that answers it (`analysis.tables.checklist_facts`); empty where only authors can."""
    left_open: str = ""
    """What the authors have to add even where the study answers."""


def _item(
    topic: str,
    numbers: tuple[str, str, str],
    where: str = "",
    answer: str = "",
    left_open: str = "",
) -> Item:
    stard_ai, claim, tripod_ai = numbers
    return Item(
        topic=topic,
        stard_ai=stard_ai,
        claim=claim,
        tripod_ai=tripod_ai,
        where=where,
        answer=answer,
        left_open=left_open,
    )


ITEMS = (
    _item("A title that names AI and diagnostic accuracy", ("1", "1", "1")),
    _item("A structured abstract", ("2", "2", "2")),
    _item("Background, intended use and place in care", ("3", "3", "3a, 3b")),
    _item("Known inequalities between groups of people", ("", "", "3c")),
    _item("Aims and hypotheses", ("4", "4", "4")),
    _item("Whether data were collected before or after the study was planned", ("5", "5", "")),
    _item("What kind of study it is", ("", "6", ""), "Overview", "goal", "the authors' aim with it"),
    _item("Approval by an ethics committee, and consent", ("6", "", "17")),
    _item("Who and what was eligible", ("7", "8", "6b")),
    _item("How participants were found", ("8", "", "")),
    _item("Places and dates", ("9", "", "5b, 6a")),
    _item("Consecutive, random or convenience series", ("10", "", "")),
    _item("Treatments that were given", ("", "", "6c")),
    _item(
        "Where the data come from", ("11", "7", "5a"), "Provenance", "source", "their origin and how usual they are"
    ),
    _item("Who labelled", ("12", "16", "8b"), "Reference standard", "readers", "their experience and training"),
    _item("How Test was labelled", ("", "17", ""), "Reference standard", "labelling", "tools and instructions"),
    _item("Scanners", ("13", "13", ""), "Data", "scanners", "models, software, staining and scanning protocol"),
    _item("How images were prepared and checked", ("14", "9", "7"), "Slides", "preparation", "steps before the files"),
    _item("How subsets of the data were chosen", ("", "10", ""), "Slides", "subset", "what was left out before"),
    _item("How identities were removed", ("", "11", "")),
    _item("What is missing, and what was done about it", ("20", "12", "11"), "Overview", "missing"),
    _item("The test itself, so that it can be repeated", ("15a", "22", "12g, 15"), "Overview", "test"),
    _item("How it was developed and trained", ("15b", "25", "12c"), "Training", "training", "why this way"),
    _item("How the data were divided", ("", "19", "12a"), "Data", "parts", "how slides were dealt out, and why"),
    _item(
        "At what level the parts are apart",
        ("", "20", ""),
        "Data",
        "disjoint",
        "whether the names of patients are right",
    ),
    _item("Cut-offs, and whether they were set before", ("15c", "", "15"), "Selection", "cutoffs"),
    _item("How the final model was chosen", ("", "26", ""), "Selection", "choice"),
    _item("Who uses it, and with what expertise", ("15d", "", "27b")),
    _item(
        "The reference standard",
        ("16a", "14", "8a"),
        "Reference standard",
        "standard",
        "by what criteria labels were set",
    ),
    _item("Why this reference standard", ("16b", "15", "")),
    _item("Categories of the reference standard", ("16c", "", ""), "Reference standard", "categories"),
    _item(
        "What the test saw of labels and patients",
        ("17a", "", "9b"),
        "Overview",
        "test_blind",
        "who saw Test, and when",
    ),
    _item(
        "What those who labelled saw of the test",
        ("17b", "", "8c"),
        "Reference standard",
        "standard_blind",
        "what else they knew of the patients",
    ),
    _item("Agreement of those who labelled", ("", "18", ""), "Reference standard", "agreement"),
    _item("Choice and handling of predictors", ("", "", "9a, 9c, 12b"), "Overview", "predictors"),
    _item("Figures, and how they were computed and compared", ("18", "28, 29", "12e"), "Test", "statistics"),
    _item("Results that are no clear yes or no", ("19", "", ""), "Overview", "indeterminate"),
    _item(
        "How results vary, and how robust they are", ("21", "30", "12d, 23b"), "Test", "variation", "what was planned"
    ),
    _item("Size of the sample, and why", ("22", "21", "10"), "Test", "size", "what was intended, and why"),
    _item(
        "Errors and fairness by groups of people", ("23", "", "14"), "Test", "groups", "which groups matter, and why"
    ),
    _item("Ethics and fairness of its use", ("35", "", "")),
    _item("Flow from slides to figures", ("24", "35", "20a"), "Test", "flow"),
    _item("Who and what is in each part", ("25", "36", "20b"), "Data", "parts", "age, sex and clinical facts"),
    _item("Numbers in each analysis", ("", "", "21"), "Data", "numbers"),
    _item("How severe the disease was", ("26a", "", "")),
    _item("What those without it had", ("26b", "", "")),
    _item("Time and treatment between test and reference standard", ("27", "", "")),
    _item("How usual the share of Tumor is", ("28", "", ""), "Test", "prevalence", "the share where it would be used"),
    _item("How data from elsewhere differ", ("29", "33", "16, 20c")),
    _item("Test against reference standard, as counts", ("30", "", ""), "Test", "confusion"),
    _item("Accuracy with its uncertainty", ("31", "37, 38", "23a"), "Test", "accuracy"),
    _item("What went wrong, case by case", ("", "39", ""), "Errors", "errors", "why, seen by a pathologist"),
    _item("Performance on the data that chose, and on Test", ("", "32", ""), "Test", "internal"),
    _item("Harm by test or reference standard", ("32", "", "")),
    _item("Limitations", ("33", "40", "26")),
    _item("Meaning for practice, and overall interpretation", ("34", "41", "25")),
    _item("Next steps", ("", "", "27c")),
    _item("Registration", ("36", "34", "18d")),
    _item("Protocol", ("37", "42", "18c")),
    _item("Funding, and the role of funders", ("38", "44", "18a")),
    _item("Interests of the authors", ("39", "", "18b")),
    _item("Whether patients and public took part", ("", "", "19")),
    _item(
        "Access to data, code and model", ("40a", "43", "18e, 18f, 22"), "Provenance", "access", "where to get them"
    ),
    _item("Whether outputs are kept and can be checked", ("40b", "", ""), "Provenance", "audit"),
    _item("Software", ("", "23", ""), "Provenance", "software"),
    _item("What the network began with", ("", "24", ""), "Provenance", "start"),
    _item("Whether several models decide together", ("", "27", ""), "Overview", "ensemble"),
    _item("How the model can be looked into", ("", "31", ""), "Overlays", "insight", "whether it explains anything"),
    _item("Changes of the model after it was chosen", ("", "", "12f, 24"), "Provenance", "updating"),
    _item("Scarce Tumor in training", ("", "", "13"), "Data", "imbalance"),
    _item("What happens to poor or missing input", ("", "", "27a"), "Slides", "poor_input"),
)
"""All that the three ask, in the order of STARD-AI; a topic may have several numbers of one guideline."""
