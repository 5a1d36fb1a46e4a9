"""What a bundle keeps, and that it keeps it to the byte."""

from __future__ import annotations

import dataclasses
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from bundle_kit import CONTRACT, contract, golden, write_toy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medtex_edge import golden_vectors
from medtex_edge.bundle import Bundle, Golden
from medtex_edge.errors import BundleError, StorageError


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    bundle = Bundle.open(write_toy(tmp_path / "toy.medtex"))
    assert bundle.contract == CONTRACT
    assert bundle.precisions == ("fp32", "fp16")
    assert bundle.model() == bundle.model("fp32") == b"not a graph, but some bytes"
    assert bundle.model("fp16") == b"others"
    assert bundle.report == {"metrics": {"student": {"auc_referable": 0.9}}}
    assert bundle.extra("model_card.md") == b"# toy\n"
    assert bundle.extra("NOTICE.txt") is None
    assert set(bundle.manifest) == set(bundle.members) - {"manifest.json"}
    for field in ("images", "probabilities", "saliency"):
        np.testing.assert_array_equal(getattr(bundle.golden, field), getattr(golden(), field))


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = write_toy(tmp_path / "a.medtex"), write_toy(tmp_path / "b.medtex")
    os.utime(first, (0, 0))
    assert first.read_bytes() == second.read_bytes()


def test_the_order_of_models_and_extras_does_not_matter(tmp_path: Path) -> None:
    models = {"fp32": b"a", "fp16": b"b", "int8": b"c"}
    extras = {"model_card.md": b"d", "NOTICE.txt": b"e"}
    one = write_toy(tmp_path / "a.medtex", models=models, extras=extras)
    reverse = {"models": dict(reversed(models.items())), "extras": dict(reversed(extras.items()))}
    other = write_toy(tmp_path / "b.medtex", **reverse)
    assert one.read_bytes() == other.read_bytes()
    assert Bundle.open(one).precisions == ("fp32", "fp16", "int8")


def test_any_zip_program_opens_it(tmp_path: Path) -> None:
    path = write_toy(tmp_path / "toy.medtex")
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        assert set(file.namelist()) == set(Bundle.open(path).members)
        with np.load(io.BytesIO(file.read("golden.npz")), allow_pickle=False) as arrays:
            np.testing.assert_array_equal(arrays["images"], golden().images)
            np.testing.assert_array_equal(arrays["saliency"], golden().saliency)


def test_a_precision_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    bundle = Bundle.open(write_toy(tmp_path / "toy.medtex", models={"fp32": b"x"}))
    with pytest.raises(BundleError, match="fp32, got 'fp16'") as caught:
        bundle.model("fp16")
    assert "--fp16" in caught.value.hint


def test_a_model_that_changes_after_opening_is_noticed(tmp_path: Path) -> None:
    path = write_toy(tmp_path / "toy.medtex")
    bundle = Bundle.open(path)
    path.write_bytes(path.read_bytes().replace(b"some bytes", b"evil bytes"))
    with pytest.raises(BundleError, match=r"model\.fp32\.onnx"):
        bundle.model()


@pytest.mark.parametrize(
    "changes",
    [
        {"models": {"fp16": b"without fp32"}},
        {"models": {"fp32": b""}},
        {"models": {"fp32": b"x", "fp8": b"y"}},
        {"extras": {"patients.csv": b"x"}},
        {"extras": {"manifest.json": b"{}"}},
        {"report": {"loss": float("nan")}},
        {"report": {"path": Path("x")}},
        {"contract": contract(height=16)},
        {"golden": golden(count=0)},
        {"golden": golden(count=golden_vectors.MAX_VECTORS + 1)},
        {"golden": dataclasses.replace(golden(), saliency=golden().saliency * 2)},
        {"golden": dataclasses.replace(golden(), saliency=golden().saliency * np.float32("nan"))},
        {"golden": dataclasses.replace(golden(), probabilities=golden().probabilities * np.float32(0.5))},
        {"golden": dataclasses.replace(golden(), images=golden().images.astype(np.float32))},
    ],
)
def test_what_would_be_refused_is_not_written(tmp_path: Path, changes: dict[str, object]) -> None:
    path = tmp_path / "toy.medtex"
    path.write_bytes(b"as it was")
    with pytest.raises(BundleError):
        write_toy(path, **changes)
    assert path.read_bytes() == b"as it was"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_refuses_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="file/toy"):
        write_toy(tmp_path / "file" / "toy.medtex")
    if Path("/dev/full").exists():
        with pytest.raises(StorageError):
            write_toy(Path("/dev/full/x.medtex"))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sides=st.tuples(*[st.integers(1, 12)] * 2),
    grid=st.tuples(*[st.integers(1, 12)] * 2),
    classes=st.integers(2, 5),
    count=st.integers(1, 3),
)
def test_golden_vectors_of_any_shape_survive(
    sides: tuple[int, int], grid: tuple[int, int], classes: int, count: int
) -> None:
    (height, width), (rows, columns) = sides, (min(grid[0], sides[0]), min(grid[1], sides[1]))
    of = contract(
        height=height, width=width, saliency_height=rows, saliency_width=columns,
        classes=tuple(f"class {index}" for index in range(classes)), referable=(1,),
    )  # fmt: skip
    before = golden(of, count)
    after = golden_vectors.unpack(golden_vectors.pack(before, of), of)
    for field in dataclasses.fields(Golden):
        np.testing.assert_array_equal(getattr(before, field.name), getattr(after, field.name))
        assert getattr(before, field.name).dtype == getattr(after, field.name).dtype


def test_vectors_that_are_views_are_written_with_their_values(tmp_path: Path) -> None:
    whole = golden(contract(height=16), count=2)
    part = dataclasses.replace(whole, images=whole.images[:, ::2])
    bundle = Bundle.open(write_toy(tmp_path / "toy.medtex", golden=part))
    np.testing.assert_array_equal(bundle.golden.images, whole.images[:, ::2])
