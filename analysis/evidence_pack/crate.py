"""What an evidence pack is and holds, as RO-Crate 1.1 metadata (ro-crate-metadata.json)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bccdist

NAME = "ro-crate-metadata.json"
_FORMATS = {
    ".parquet": "application/vnd.apache.parquet",
    ".csv": "text/csv",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".html": "text/html",
    ".pyz": "application/zip",
    ".md": "text/markdown",
    ".txt": "text/plain",
    ".zip": "application/zip",
}
_UNKNOWN = "application/octet-stream"


def crate_metadata(
    folder: Path, files: Mapping[str, str], *, name: str, made_at: str, about: Mapping[str, str]
) -> dict[str, Any]:
    """The metadata.

    Args:
        folder: the pack, with these files in it.
        files: the SHA-256 of each by its name.
        name: of the study.
        made_at: UTC, ISO 8601.
        about: what a file is, by its name or by the folder that it is in.
    """
    software = {
        "@id": "#bccdist",
        "@type": "SoftwareApplication",
        "name": "bccdist",
        "version": bccdist.__version__,
    }
    return {
        "@context": "https://w3id.org/ro/crate/1.1/context",
        "@graph": [
            {
                "@id": NAME,
                "@type": "CreativeWork",
                "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
                "about": {"@id": "./"},
            },
            {
                "@id": "./",
                "@type": "Dataset",
                "name": f"Evidence pack of {name}",
                "description": "What the report of a study rests on: raw rows, labels, choice, tables, digests of "
                "model, data and code, and the job log. `python verify.pyz` checks it. For research alone.",
                "datePublished": made_at,
                "license": {"@id": "#licence"},
                "hasPart": [{"@id": each} for each in files],
            },
            {
                "@id": "#licence",
                "@type": "CreativeWork",
                "name": "No licence named",
                "description": "Nobody has named a licence; ask whoever gave you this pack.",
            },
            software,
            {
                "@id": "#making",
                "@type": "CreateAction",
                "name": "The evidence pack is made",
                "endTime": made_at,
                "instrument": {"@id": software["@id"]},
                "result": [{"@id": each} for each in files],
            },
            *(
                {
                    "@id": each,
                    "@type": "File",
                    "name": about.get(each, about.get(each.partition("/")[0], each)),
                    "encodingFormat": _FORMATS.get(Path(each).suffix, _UNKNOWN),
                    "contentSize": str((folder / each).stat().st_size),
                    "sha256": digest,
                }
                for each, digest in files.items()
            ),
        ],
    }
