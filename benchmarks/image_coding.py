"""How to store a 512 px patch and its mask: size, speed, and what the coding costs in tumor IoU.

Run `python benchmarks/image_coding.py DATA_FOLDER [--work FOLDER] [--no-iou]`; DATA_FOLDER holds `slides.csv`, slides
and 10x masks. It prints markdown tables. Times are CPU seconds of one core; the codings take turns, and medians are
shown. The networks of the second part stay in `--work`, so that an interrupted run goes on where it was.
"""

import argparse
import csv
import datetime
import io
import statistics
import struct
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from bccdist.configuration import PATCH_PX, AugmentConfig
from bccdist.files import read_json, sha256_of_file, write_json
from bccdist.networks.inputs import to_network_input
from bccdist.networks.unet import DeeplySupervisedUNet, tumor_probability
from bccdist.networks.weights import load_network, save_network
from bccdist.slides.geometry import Box, patch_grid
from bccdist.slides.slide import Slide
from bccdist.training.augmentation import augment, draw_augmentation
from bccdist.training.losses import losses
from bccdist.training.reporting.metrics import iou

try:
    import simplejpeg  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # it is no dependency of the library: its column then stays empty
    simplejpeg = None

Array = NDArray[np.uint8]
Decode = Callable[[bytes], Array]

TARGET_MPP = 0.92
GRID_ORIGIN_PX = (3, 5)
"""(x, y) of the first patch: off the 8 px blocks of the slide's own JPEG. On them a second JPEG of similar quality
repeats the first one's rounding, and its error looks smaller than it is."""
TUMOR = 2
"""Value of tumor in the 10x masks; 0 is no tissue."""
NUM_TIMED_PATCHES = 12
NUM_ROUNDS = 5
CROP_PX = 256
BATCH = 8
WIDTH = 16
LEARNING_RATE = 2e-3
SEEDS = (0, 1)
LOSSLESS = "PNG, level 1"
TRAINED_CODINGS = (LOSSLESS, "JPEG q90 4:4:4", "JPEG q80 4:2:0")
"""Lossless, the candidate, and a harsh one."""
SAMPLING = {"4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444}


@dataclass(frozen=True, kw_only=True)
class Coding:
    """A way to turn pixels into bytes, and the ways back."""

    name: str
    encode: Callable[[Array], bytes]
    decoders: Mapping[str, Decode]
    """By the library's name; `cv2` first, or what stands for it."""

    def decode(self, data: bytes) -> Array:
        """The pixels, by the first decoder."""
        return next(iter(self.decoders.values()))(data)


@dataclass(frozen=True, kw_only=True)
class Patch:
    """One patch of a slide at 10x."""

    image: Array
    """RGB [512, 512, 3]."""
    mask: Array
    """1 where tumor, [512, 512]."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """CPU time of one core for one sample; the median over rounds."""

    encode_ms: float
    decodes_per_s: Mapping[str, float]


# Codings


def image_codings() -> list[Coding]:
    """The codings of pixels, all written by OpenCV."""
    jpegs = [_jpeg(quality, sampling) for quality in (80, 85, 90, 95) for sampling in SAMPLING]
    webps = [_webp(f"WebP q{quality}", quality) for quality in (80, 90)]
    png = _cv2_image(LOSSLESS, ".png", [cv2.IMWRITE_PNG_COMPRESSION, 1], {})
    return [*jpegs, *webps, _webp("WebP lossless", 101), png]


def _jpeg(quality: int, sampling: str) -> Coding:
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLING[sampling]]
    more: dict[str, Decode] = {} if simplejpeg is None else {"simplejpeg": simplejpeg.decode_jpeg}
    return _cv2_image(f"JPEG q{quality} {sampling}", ".jpg", options, more)


def _webp(name: str, quality: int) -> Coding:
    """OpenCV takes a quality above 100 for lossless."""
    return _cv2_image(name, ".webp", [cv2.IMWRITE_WEBP_QUALITY, quality], {})


def _cv2_image(name: str, extension: str, options: list[int], more: Mapping[str, Decode]) -> Coding:
    def encode(image: Array) -> bytes:
        return cv2.imencode(extension, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()

    return Coding(name=name, encode=encode, decoders={"cv2": _cv2_rgb, "PIL": _pil_rgb, **more})


def _cv2_rgb(data: bytes) -> Array:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB), dtype=np.uint8)


def _pil_rgb(data: bytes) -> Array:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=np.uint8)


def mask_codings() -> list[Coding]:
    """The codings of masks; those named PNG are what `.decode("pil")` of WebDataset reads as `mask.png`."""
    strategies = {
        "default": cv2.IMWRITE_PNG_STRATEGY_DEFAULT,
        "filtered": cv2.IMWRITE_PNG_STRATEGY_FILTERED,
        "Huffman": cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY,
        "RLE": cv2.IMWRITE_PNG_STRATEGY_RLE,
        "fixed": cv2.IMWRITE_PNG_STRATEGY_FIXED,
    }
    decoders = {"cv2": _cv2_mask, "PIL": _pil_mask}
    written = {
        "PNG 1 bit, cv2, its defaults": _cv2_writer(".png", [cv2.IMWRITE_PNG_BILEVEL, 1]),
        **{f"PNG 1 bit, cv2, level {level}": _cv2_png(level) for level in (0, 1, 6)},
        **{f"PNG 1 bit, cv2, level 1, {name}": _cv2_png(1, strategy) for name, strategy in strategies.items()},
        "PNG 8 bit, cv2, level 1": _cv2_writer(".png", [cv2.IMWRITE_PNG_COMPRESSION, 1]),
        "PNG 8 bit, imagecodecs, level 1, RLE": _imagecodecs_png,
        "PNG 1 bit, PIL, level 1": _pil_png,
        **{f"PNG 1 bit, packbits and zlib, level {level}": _packed_png(level) for level in (1, 6)},
        "WebP lossless, cv2": _cv2_writer(".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
    }
    codings = [Coding(name=name, encode=encode, decoders=decoders) for name, encode in written.items()]
    packed = Coding(name="packed bits, zlib level 1", encode=_packed, decoders={"numpy": _unpacked})
    return [*codings, packed]


def _cv2_writer(extension: str, options: list[int]) -> Callable[[Array], bytes]:
    return lambda mask: cv2.imencode(extension, mask * np.uint8(255), options)[1].tobytes()


def _cv2_png(level: int, strategy: int | None = None) -> Callable[[Array], bytes]:
    options = [cv2.IMWRITE_PNG_BILEVEL, 1, cv2.IMWRITE_PNG_COMPRESSION, level]
    return _cv2_writer(".png", options if strategy is None else [*options, cv2.IMWRITE_PNG_STRATEGY, strategy])


def _imagecodecs_png(mask: Array) -> bytes:
    return bytes(imagecodecs.png_encode(mask * np.uint8(255), level=1, strategy=3))


def _pil_png(mask: Array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(bool)).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def _packed_png(level: int) -> Callable[[Array], bytes]:
    """A PNG by hand: its rows are packed bits behind a byte that says "not filtered"."""

    def encode(mask: Array) -> bytes:
        height, width = mask.shape
        rows = np.pad(np.packbits(mask, axis=1), ((0, 0), (1, 0)))
        header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), level)), (b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)

    return encode


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _packed(mask: Array) -> bytes:
    return zlib.compress(np.packbits(mask).tobytes(), 1)


def _unpacked(data: bytes) -> Array:
    return np.unpackbits(np.frombuffer(zlib.decompress(data), np.uint8)).reshape(PATCH_PX, PATCH_PX)


def _cv2_mask(data: bytes) -> Array:
    gray = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE), dtype=np.uint8)
    return (gray > 0).astype(np.uint8)


def _pil_mask(data: bytes) -> Array:
    return (np.asarray(Image.open(io.BytesIO(data)).convert("L"), dtype=np.uint8) > 0).astype(np.uint8)


# Sizes, speeds, errors


def measure_speeds(codings: Sequence[Coding], arrays: Sequence[Array]) -> dict[str, Speed]:
    """The speed of each coding; in every round all of them are measured, one after the other."""
    encode_s: dict[str, list[float]] = {coding.name: [] for coding in codings}
    decode_s: dict[tuple[str, str], list[float]] = {}
    for _ in range(NUM_ROUNDS):
        for coding in codings:
            encode_s[coding.name].append(_seconds(coding.encode, arrays))
            encoded = [coding.encode(array) for array in arrays]
            for library, decode in coding.decoders.items():
                decode_s.setdefault((coding.name, library), []).append(_seconds(decode, encoded))
    return {
        coding.name: Speed(
            encode_ms=1000 * statistics.median(encode_s[coding.name]),
            decodes_per_s={
                library: 1 / statistics.median(decode_s[coding.name, library]) for library in coding.decoders
            },
        )
        for coding in codings
    }


def _seconds(function: Callable[[Any], object], items: Sequence[Any]) -> float:
    """CPU seconds per item; what others do on the machine counts less there than in the time of day."""
    start_s = time.process_time()
    for item in items:
        function(item)
    return (time.process_time() - start_s) / len(items)


def mean_kib(coding: Coding, arrays: Sequence[Array]) -> float:
    """KiB a sample."""
    return statistics.mean(len(coding.encode(array)) for array in arrays) / 1024


def coding_errors(coding: Coding, images: Sequence[Array]) -> tuple[float, float]:
    """Mean absolute error in grey values, and PSNR in dB over all images; infinite where there is no error."""
    differences = [coding.decode(coding.encode(image)).astype(np.int16) - image for image in images]
    absolute = np.mean([np.abs(difference).mean() for difference in differences])
    squared = np.mean([np.square(difference, dtype=np.int32).mean() for difference in differences])
    return float(absolute), float(10 * np.log10(255**2 / squared)) if squared else float("inf")


def image_table(images: Sequence[Array]) -> list[str]:
    """Size, speed and error of the codings of pixels."""
    codings = image_codings()
    speeds = measure_speeds(codings, images)
    rows = []
    for coding in codings:
        speed, (absolute, psnr_db) = speeds[coding.name], coding_errors(coding, images)
        decodes = [f"{speed.decodes_per_s.get(library, np.nan):,.0f}" for library in ("cv2", "PIL", "simplejpeg")]
        kib = f"{mean_kib(coding, images):.1f}"
        rows.append([coding.name, kib, f"{speed.encode_ms:.2f}", *decodes, f"{absolute:.2f}", f"{psnr_db:.1f}"])
    header = "image | KiB | encode ms | decodes/s cv2 | PIL | simplejpeg | mean abs. error | PSNR dB"
    return markdown(header, rows)


def mask_table(masks: Sequence[Array]) -> list[str]:
    """Size and speed of the codings of masks: a blank one, and those with a tumor's outline.

    Raises:
        ValueError: a coding changes a mask.
    """
    codings, blank = mask_codings(), [np.zeros((PATCH_PX, PATCH_PX), np.uint8)] * len(masks)
    for coding in codings:
        _require_lossless(coding, [blank[0], *masks])
    drawn_speeds, blank_speeds = measure_speeds(codings, masks), measure_speeds(codings, blank)
    rows = []
    for coding in codings:
        drawn = drawn_speeds[coding.name]
        sizes = [f"{mean_kib(coding, arrays):.2f}" for arrays in (masks, blank[:1])]
        times = [f"{drawn.encode_ms:.3f}", f"{blank_speeds[coding.name].encode_ms:.3f}"]
        decodes = [f"{drawn.decodes_per_s.get(library, np.nan):,.0f}" for library in ("cv2", "PIL", "numpy")]
        rows.append([coding.name, *sizes, *times, *decodes])
    header = "mask | KiB drawn | KiB blank | encode ms drawn | encode ms blank | decodes/s cv2 | PIL | numpy"
    return markdown(header, rows)


def _require_lossless(coding: Coding, masks: Sequence[Array]) -> None:
    for library, decode in coding.decoders.items():
        if not all(np.array_equal(decode(coding.encode(mask)), mask) for mask in masks):
            raise ValueError(f"{coding.name}: {library} decodes another mask than was written; do not use it")


def markdown(header: str, rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table; a number that is not there is a dash."""
    columns = header.count("|") + 1
    lines = [" | ".join("-" if cell == "nan" else cell for cell in row) for row in rows]
    return [f"| {line} |" for line in (header, "---" + " | ---:" * (columns - 1), *lines)]


# Patches


def read_part(data: Path, part: str) -> list[Patch]:
    """The patches of a part's slides that hold tissue, edge to edge.

    Raises:
        SlideError: a slide cannot be read.
    """
    with (data / "slides.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["part"] == part]
    return [patch for row in rows for patch in _read_slide(data / row["slide"], data / row["mask"])]


def _read_slide(slide_path: Path, mask_path: Path) -> list[Patch]:
    values = np.asarray(cv2.imread(str(mask_path), cv2.IMREAD_GRAYSCALE), dtype=np.uint8)
    patches = []
    with Slide(slide_path, target_mpp=TARGET_MPP) as slide:
        for aligned in patch_grid(slide.width_px, slide.height_px, patch_px=PATCH_PX, stride_px=PATCH_PX):
            box = aligned._replace(x=aligned.x + GRID_ORIGIN_PX[0], y=aligned.y + GRID_ORIGIN_PX[1])
            inside = _padded(values, box)
            if inside.any():
                patches.append(Patch(image=slide.read(box), mask=(inside == TUMOR).astype(np.uint8)))
    return patches


def _padded(values: Array, box: Box) -> Array:
    """The mask under a patch; there is no tissue outside the slide."""
    inside = values[box.slices()]
    return np.pad(inside, ((0, box.height - inside.shape[0]), (0, box.width - inside.shape[1])))


def spread(patches: Sequence[Patch], num: int) -> list[Patch]:
    """So many of them from the first to the last; those with both tumor and other pixels only."""
    mixed = [patch for patch in patches if 0.02 < patch.mask.mean() < 0.98]
    return [mixed[index] for index in np.linspace(0, len(mixed) - 1, num).round().astype(int)]


# Networks


def coded(patches: Sequence[Patch], coding: Coding) -> list[Patch]:
    """The patches as they come back from the coding."""
    return [Patch(image=coding.decode(coding.encode(patch.image)), mask=patch.mask) for patch in patches]


def batch_of(patches: Sequence[Patch], *, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """The augmented crops of one step, half of them from patches with tumor; they follow from seed and step."""
    random = np.random.default_rng([seed, step])
    tumor = [index for index, patch in enumerate(patches) if patch.mask.any()]
    chosen = [*random.choice(tumor, BATCH // 2), *random.integers(len(patches), size=BATCH - BATCH // 2)]
    pairs = []
    for place, index in enumerate(chosen):
        y, x = random.integers(PATCH_PX - CROP_PX + 1, size=2)
        crop = np.s_[y : y + CROP_PX, x : x + CROP_PX]
        change = draw_augmentation(AugmentConfig(), seed=seed, epoch=1, position=step * BATCH + place)
        pairs.append(augment(patches[index].image[crop], patches[index].mask[crop], change))
    images, masks = zip(*pairs, strict=True)
    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(masks))


def train(patches: Sequence[Patch], *, seed: int, num_steps: int) -> DeeplySupervisedUNet:
    """A small network after `num_steps` steps, the rate falling to zero; with equal seeds only pixels differ."""
    torch.manual_seed(seed)
    network = DeeplySupervisedUNet("resnet34_ds", width=WIDTH)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=num_steps)
    for step in range(num_steps):
        images, masks = batch_of(patches, seed=seed, step=step)
        scores = network(to_network_input(images))
        terms = losses(network.setting, scores, masks, gamma=2.0, method="nearest-exact")
        loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return network.eval()


def trained(
    work: Path, patches: Sequence[Patch], coding: Coding, *, seed: int, num_steps: int
) -> DeeplySupervisedUNet:
    """The network of a coding and a seed: from the work folder, or trained now and kept there."""
    name = "".join(letter if letter.isalnum() else "_" for letter in coding.name)
    path = work / f"{name}_seed{seed}.safetensors"
    if not path.exists():
        start_s = time.monotonic()
        save_network(path, train(coded(patches, coding), seed=seed, num_steps=num_steps), {"coding": coding.name})
        print(f"trained {path.name} in {time.monotonic() - start_s:.0f} s", file=sys.stderr)
    return load_network(path)[0]


def predict(network: DeeplySupervisedUNet, patches: Sequence[Patch]) -> list[NDArray[np.bool_]]:
    """Where the tumor probability is at least 0.5, for each patch."""
    results = []
    with torch.inference_mode():
        for patch in patches:
            scores = network(to_network_input(torch.from_numpy(patch.image)[None]))
            results.append(np.asarray(tumor_probability(scores["psi_4"])[0].numpy() >= 0.5))
    return results


def tumor_iou(predicted: Sequence[NDArray[np.bool_]], patches: Sequence[Patch]) -> float:
    """Intersection over union of tumor over the pixels of all patches."""
    counts = np.zeros(3, np.int64)
    for found, patch in zip(predicted, patches, strict=True):
        true = patch.mask.astype(bool)
        counts += [np.count_nonzero(found & true), np.count_nonzero(found & ~true), np.count_nonzero(~found & true)]
    tp, fp, fn = counts.tolist()
    return iou(tp, fp, fn)


# What the coding costs


def direct_table(networks: Sequence[DeeplySupervisedUNet], patches: Sequence[Patch]) -> list[str]:
    """Networks trained on lossless patches, evaluated on coded ones."""
    truths = [predict(network, patches) for network in networks]
    references = [tumor_iou(truth, patches) for truth in truths]
    rows = [["the slide's own pixels", *(f"{value:.4f}" for value in references), *["" for _ in networks], "0"]]
    for coding in image_codings():
        found = [predict(network, coded(patches, coding)) for network in networks]
        values = [tumor_iou(predicted, patches) for predicted in found]
        changes = [f"{value - reference:+.4f}" for value, reference in zip(values, references, strict=True)]
        crossing = np.mean([np.mean(np.not_equal(*pair)) for pair in zip(found, truths, strict=True)])
        rows.append([coding.name, *(f"{value:.4f}" for value in values), *changes, f"{crossing:.1e}"])
    seeds = " | ".join(f"IoU seed {seed}" for seed in SEEDS), " | ".join(f"change seed {seed}" for seed in SEEDS)
    return markdown(f"evaluated on | {seeds[0]} | {seeds[1]} | share of pixels crossing 0.5", rows)


def training_table(ious: Mapping[str, Sequence[float]]) -> list[str]:
    """Networks trained on coded patches, evaluated on the slide's own pixels."""
    reference = np.array(ious[LOSSLESS])
    rows = []
    for name, values in ious.items():
        difference = np.array(values) - reference
        each = [*(f"{value:.4f}" for value in values), *(f"{value:+.4f}" for value in difference)]
        rows.append([name, *each, f"{difference.mean():+.4f}", f"{np.ptp(values):.4f}"])
    seeds = " | ".join(f"IoU seed {seed}" for seed in SEEDS), " | ".join(f"change seed {seed}" for seed in SEEDS)
    return markdown(f"trained on | {seeds[0]} | {seeds[1]} | mean change | between seeds", rows)


def cost_in_iou(data: Path, work: Path, *, num_steps: int) -> list[str]:
    """Both tables of tumor IoU on Validation I; `work` keeps the networks and the table of direct effects.

    Raises:
        ValueError: `work` was made with other settings.
    """
    work.mkdir(parents=True, exist_ok=True)
    _claim(work, data, num_steps)
    training, validation = read_part(data, "train"), read_part(data, "val1")
    print(f"{len(training)} patches to train on, {len(validation)} to evaluate on", file=sys.stderr)
    codings = {coding.name: coding for coding in image_codings()}
    ious: dict[str, list[float]] = {name: [] for name in TRAINED_CODINGS}
    lossless = []
    for seed in SEEDS:
        for name in TRAINED_CODINGS:
            network = trained(work, training, codings[name], seed=seed, num_steps=num_steps)
            lossless += [network] if name == LOSSLESS else []
            ious[name].append(tumor_iou(predict(network, validation), validation))
            print(f"trained on {name}, seed {seed}: IoU {ious[name][-1]:.4f}", file=sys.stderr)
    return [
        *_kept(work / "direct.json", lambda: direct_table(lossless, validation)),
        "",
        *training_table(ious),
        "",
        "Between seeds only chance differs: a change that is no larger than that spread is not told apart from it.",
    ]


def _claim(work: Path, data: Path, num_steps: int) -> None:
    """Write what decides the results to the work folder, or check that it is the same."""
    settings = {
        "slides": sha256_of_file(data / "slides.csv"),
        "grid_origin_px": list(GRID_ORIGIN_PX),
        "crop_px": CROP_PX,
        "batch": BATCH,
        "width": WIDTH,
        "learning_rate": LEARNING_RATE,
        "num_steps": num_steps,
    }
    path = work / "settings.json"
    if not path.exists():
        write_json(path, settings)
    if (there := dict(read_json(path))) != settings:
        raise ValueError(f"{path} says {there}, this run has {settings}; nothing was changed: give another --work")


def _kept(path: Path, make: Callable[[], list[str]]) -> list[str]:
    if not path.exists():
        write_json(path, {"lines": make()})
    return list(read_json(path)["lines"])


def picture_lines(path: Path) -> list[str]:
    """The same table for a picture at half its size, where little is left of a JPEG that it may have been before.

    Raises:
        ValueError: the picture cannot be read.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise ValueError(f"{path}: no picture that OpenCV can read; give a PNG or TIFF of tissue")
    half = np.asarray(cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    height, width = half.shape[:2]
    return ["", f"{path.name} at half its size, one picture of {width} x {height} px:", "", *image_table([half])]


def opening_lines() -> list[str]:
    """What was measured, when, with what."""
    versions = f"torch {torch.__version__}, OpenCV {cv2.__version__}, Pillow {PIL.__version__}"
    return [
        f"Coding of 512 px patches at 10x, {datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}; {versions}.",
        "CPU time of one core, median of rounds in which the codings take turns.",
        "The slides' pixels were JPEG before: errors and costs are those of a second generation, not of a first.",
        f"The patches lie off the first JPEG's blocks, by {GRID_ORIGIN_PX} px.",
        "",
    ]


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, help="folder with slides.csv, slides and 10x masks")
    parser.add_argument("--work", type=Path, default=Path("image_coding_work"), help="keeps the trained networks")
    parser.add_argument("--picture", type=Path, help="measure the codings on this picture too")
    parser.add_argument("--num-steps", type=int, default=300, help="of training, for each network")
    parser.add_argument("--no-iou", action="store_true", help="sizes, speeds and errors only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    timed = spread(read_part(options.data, "train"), NUM_TIMED_PATCHES)
    lines = [*image_table([patch.image for patch in timed]), "", *mask_table([patch.mask for patch in timed])]
    lines += picture_lines(options.picture) if options.picture else []
    print("\n".join([*opening_lines(), *lines]), flush=True)
    if not options.no_iou:
        print("\n".join(["", *cost_in_iou(options.data, options.work, num_steps=options.num_steps)]))


if __name__ == "__main__":
    main()
