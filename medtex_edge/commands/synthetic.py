"""`medtex-edge synthetic`: write a dataset of synthetic fundus photographs, and a video to run a bundle on."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("synthetic")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="A new or empty folder.")
@click.option("--count", type=int, default=240, show_default=True, help="Number of photographs.")
@click.option("--size", type=int, default=320, show_default=True, help="Height of the photographs in pixels.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Equal seeds, equal pixels.")
@click.option(
    "--video",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also write a video of an eye to FILE.mp4 or FILE.avi.",
)
@click.option(
    "--frames", type=click.IntRange(1), default=250, show_default=True, help="Length of the video, at 25 a second."
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object: folder, counts and video; progress goes to stderr.",
)
def synthetic(out: Path, count: int, size: int, seed: int, video: Path | None, frames: int, as_json: bool) -> None:
    """Write synthetic fundus photographs with exact lesion masks, for tests, demonstration and teaching.

    The grades 0 to 4 follow from the lesions by a written rule. No result on such
    photographs holds for patients.

    \b
    Example:
      medtex-edge synthetic --out dataset --count 240 --video dataset.mp4
      medtex-edge train --data dataset --label-column grade
    """
    import json
    from collections import Counter

    from rich.console import Console

    from medtex_edge.errors import SettingsError
    from medtex_edge.progress import ProgressDisplay
    from medtex_edge.train.synthetic.dataset import PURPOSE, plan_eyes, write_dataset, write_video
    from medtex_edge.train.synthetic.video import CODECS

    if video is not None and video.suffix.lower() not in CODECS:
        # Before minutes are spent on the photographs.
        raise SettingsError(f"--video {video}: expected a name that ends in {' or '.join(CODECS)}")
    display = ProgressDisplay(Console(stderr=True))
    with display:
        write_dataset(out, count=count, size=size, seed=seed, progress=display)
        if video is not None:
            write_video(video, seed, frames=frames, progress=display)
    eyes = plan_eyes(count, seed)
    grades = Counter(eye.grade for eye in eyes)
    splits = Counter(eye.split for eye in eyes)
    patients = len({eye.patient for eye in eyes})
    if as_json:
        found = {
            "folder": str(out), "count": count, "patients": patients, "grades": dict(sorted(grades.items())),
            "splits": dict(splits), "video": None if video is None else str(video),
        }  # fmt: skip
        click.echo(json.dumps(found))
        return
    click.echo(f"{out}: {count} photographs of {patients} synthetic patients")
    click.echo("  grades: " + ", ".join(f"{grade}: {grades[grade]}" for grade in sorted(grades)))
    click.echo(f"  splits: train {splits['train']}, val {splits['val']}")
    click.echo("  images/, labels.csv, and lesion masks in masks/")
    if video is not None:
        click.echo(f"{video}: {frames} frames with drift, a blink and a loss of focus")
    click.echo(f"Note: {PURPOSE}.")
    click.echo(f"Next: medtex-edge train --data {out} --label-column grade --masks {out}")
