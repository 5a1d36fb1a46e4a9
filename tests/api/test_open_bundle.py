"""`medtex_edge.open_bundle` and the readings that it gives to a program."""

from __future__ import annotations

import json
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import bundles
import cv2
import numpy as np
import numpy.typing as npt
import pytest

import medtex_edge
from medtex_edge.cli import main
from medtex_edge.errors import BackendError, BundleError, ImageError, SettingsError

CHANGING = ("captured", "age_ms", "latency_ms")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return bundles.bundle(tmp_path / "tiny.medtex")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "photo.png"), bundles.disc(240, width=320, lesion=True))
    return tmp_path / "photo.png"


def rgb(photo: Path) -> npt.NDArray[np.uint8]:
    image = cv2.imread(str(photo))
    assert image is not None
    return np.asarray(image[..., ::-1], np.uint8)


def steady(reading: dict[str, Any]) -> dict[str, Any]:
    """Without what changes from call to call; an engine's last bit may depend on where its buffers lie."""

    def rounded(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: rounded(each) for name, each in value.items()}
        return round(value, 4) if isinstance(value, float) else value

    return {name: rounded(value) for name, value in reading.items() if name not in CHANGING}


def test_a_photograph_is_read_as_the_command_reads_it(
    path: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["run", str(path), "--source", str(photo), "--readings", "r.jsonl", "--save", "overlays", "--no-display"]
    assert main(command) == 0
    written = json.loads(Path("r.jsonl").read_text())
    with medtex_edge.open_bundle(path) as bundle:
        reading = bundle.read(photo)
    assert steady(reading.as_dict()) == steady(written)
    assert json.loads(reading.to_json()) == reading.as_dict()
    assert list(reading.latency_ms) == list(written["latency_ms"])
    drawn = cv2.imread("overlays/photo.png")
    assert drawn is not None
    assert np.array_equal(reading.overlay(), drawn[..., ::-1])


def test_a_reading_has_everything_under_its_name(path: Path, photo: Path) -> None:
    with medtex_edge.open_bundle(str(path)) as bundle:
        assert bundle.classes == bundle.contract.classes == bundles.CLASSES
        reading = bundle.read(str(photo))
    assert reading.verdict is medtex_edge.Verdict.REFERABLE
    assert (reading.verdict, reading.label, reading.reason, reading.detail) == ("referable", "severe", None, "")
    assert reading.probabilities is not None
    assert list(reading.probabilities) == list(bundles.CLASSES)
    assert sum(reading.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert reading.referable_probability == pytest.approx(reading.probabilities["severe"])
    assert reading.saliency is not None
    assert (reading.saliency.shape, reading.saliency.dtype) == ((16, 16), np.float32)
    assert 0 <= reading.saliency.min() < 0.1 < 0.5 < reading.saliency.max() <= 1
    assert reading.field_of_view is not None
    assert reading.quality is not None
    assert (reading.size, reading.source, reading.frame) == ((320, 240), str(photo), 0)


def test_an_array_is_rgb_and_gives_what_its_file_gives(path: Path, photo: Path) -> None:
    image = rgb(photo)
    before = image.copy()
    image.flags.writeable = False
    with medtex_edge.open_bundle(path) as bundle:
        from_file, from_array = bundle.read(photo), bundle.read(image, name=str(photo))
        strided = bundle.read(np.repeat(image, 2, axis=1)[:, ::2], name=str(photo))
        swapped = bundle.read(np.ascontiguousarray(image[..., ::-1]))
    assert steady(from_file.as_dict()) == steady(from_array.as_dict()) == steady(strided.as_dict())
    assert swapped.verdict != from_array.verdict, "red and blue are not the same"
    assert np.array_equal(image, before)


def test_an_overlay_is_a_picture_of_its_own(path: Path, photo: Path) -> None:
    with medtex_edge.open_bundle(path) as bundle:
        reading = bundle.read(photo)
    first = reading.overlay()
    assert (first.shape, first.dtype) == ((240, 320, 3), np.uint8)
    kept = first.copy()
    first[:] = 0
    assert np.array_equal(reading.overlay(), kept), "after the bundle is closed, and as often as wanted"


def test_a_saliency_is_not_changed_by_the_next_reading(path: Path, photo: Path) -> None:
    with medtex_edge.open_bundle(path) as bundle:
        first = bundle.read(photo)
        assert first.saliency is not None
        kept = first.saliency.copy()
        bundle.read(bundles.disc(240, width=320))
        assert np.array_equal(first.saliency, kept)
        first.saliency[:] = 0
        again = bundle.read(photo).saliency
    assert again is not None
    assert np.allclose(again, kept, atol=1e-5)


def test_an_ungradable_picture_has_a_reason_and_no_answer(path: Path) -> None:
    with medtex_edge.open_bundle(path) as bundle:
        reading = bundle.read(np.zeros((120, 160, 3), np.uint8))
    assert reading.verdict is medtex_edge.Verdict.UNGRADABLE
    assert reading.reason is medtex_edge.Reason.BLACK
    assert (reading.label, reading.probabilities, reading.saliency) == ("", None, None)
    assert reading.overlay().any()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((64, 64, 3), np.float32), np.zeros((64, 64, 3), np.uint16), np.zeros((64, 64), np.uint8),
        np.zeros((3, 64, 64), np.uint8), np.zeros((1, 64, 64, 3), np.uint8), np.zeros((64, 64, 4), np.uint8),
        [[0, 0, 0]], None, b"\xff\xd8",
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused_with_what_was_expected_and_the_next_step(path: Path, image: Any) -> None:
    with medtex_edge.open_bundle(path) as bundle, pytest.raises(SettingsError) as refused:
        bundle.read(image)
    assert "expected a path or an array (H, W, 3) uint8 RGB, got " in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize("content", [None, b"", b"no photograph"])
def test_a_file_that_cannot_be_decoded_is_an_error_of_the_image(
    path: Path, tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "bad.jpg").write_bytes(content)
    with medtex_edge.open_bundle(path) as bundle, pytest.raises(ImageError, match=r"bad\.jpg"):
        bundle.read(tmp_path / "bad.jpg")


def test_a_bundle_is_refused_where_it_is_damaged_or_this_machine_does_not_reproduce_it(tmp_path: Path) -> None:
    good = bundles.bundle(tmp_path / "good.medtex")
    data = bytearray(good.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "damaged.medtex").write_bytes(data)
    bundles.bundle(tmp_path / "drifted.medtex", drift=0.5)
    for name, message in (
        ("damaged", r"CRC-32|sha256|expected"),
        ("drifted", "does not give the answers"),
        ("missing", "No such file"),
    ):
        with pytest.raises(BundleError, match=message):
            medtex_edge.open_bundle(tmp_path / f"{name}.medtex")


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"precision": "int8"}, BundleError), ({"precision": "fp64"}, BundleError),
        ({"backend": "abacus"}, SettingsError),
        ({"threads": 0}, SettingsError), ({"threads": 1.5}, SettingsError),
    ],
)  # fmt: skip
def test_an_argument_that_cannot_be_meant_is_refused(path: Path, how: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        medtex_edge.open_bundle(path, **how)


@pytest.mark.parametrize("path", [None, 3, b"eye.medtex"])
def test_what_is_no_path_is_refused_and_its_traceback_shows_the_next_step(path: Any) -> None:
    with pytest.raises(SettingsError, match=r"expected the path of a \.medtex file, got") as refused:
        medtex_edge.open_bundle(path)
    if sys.version_info >= (3, 11):
        assert refused.value.hint in traceback.format_exception_only(refused.value)[-1]


def test_an_array_without_pixels_is_no_photograph(path: Path) -> None:
    with medtex_edge.open_bundle(path) as bundle, pytest.raises(ImageError, match="expected a photograph, got 9 x 0"):
        bundle.read(np.zeros((0, 9, 3), np.uint8))


def test_a_closed_bundle_reads_nothing_and_closes_again(path: Path, photo: Path) -> None:
    bundle = medtex_edge.open_bundle(path, threads=1, backend="onnxruntime")
    bundle.close()
    bundle.close()
    with pytest.raises(BackendError, match="closed"):
        bundle.read(photo)
    assert "closed" in repr(bundle)


def test_many_threads_get_the_answers_that_one_gets(path: Path) -> None:
    pictures = [np.ascontiguousarray(bundles.disc(160, lesion=i % 2 > 0, seed=i)[..., ::-1]) for i in range(6)]
    with medtex_edge.open_bundle(path) as bundle:
        alone = [bundle.read(picture) for picture in pictures]
        failures: list[str] = []

        def read(start: int) -> None:
            for turn in range(24):
                index = (start + turn) % len(pictures)
                reading, expected = bundle.read(pictures[index]), alone[index]
                if steady(reading.as_dict()) != steady(expected.as_dict()) or not np.allclose(
                    np.asarray(reading.saliency), np.asarray(expected.saliency), atol=1e-5
                ):
                    failures.append(f"picture {index} in thread {start}")

        threads = [threading.Thread(target=read, args=(start,)) for start in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert failures == []
