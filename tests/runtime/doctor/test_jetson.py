"""The doctor on boards that others captured: tests/jetson/README.md lists them and where they were found."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from jetson_kit import HOME, NAMES, WITHOUT_GSTREAMER, Board, run_checks

from medtex_edge.cli import main
from medtex_edge.runtime.doctor import machine, opencv
from medtex_edge.runtime.doctor.check import Check
from medtex_edge.runtime.doctor.probe import SystemProbe, ToolResult

pytestmark = pytest.mark.usefixtures("no_driver")


def values(board: Board) -> dict[str, str]:
    return {name: line.value for name, line in run_checks(board).items()}


def test_a_board_with_jetpack_6_2_is_reported_line_by_line(make: Callable[[str], Board]) -> None:
    board = make("jetpack-6.2")
    assert values(board) == {
        "board": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super (tegra234)",
        "JetPack": "6.2 (L4T 36.4.3)",
        "python": f"3.10 of {HOME}, sees what JetPack installed",
        "power mode": "25W of 15W, 25W, MAXN_SUPER, 7W",
        "GPU clock": "306 to 918 MHz, 306 now, governor nvhost_podgov",
        "CPU clock": "up to 1344 MHz, governor schedutil, cores 0-5 on",
        "memory": "7620 MiB for CPU and GPU together, 6041 free; swap 3810 MiB (3810 zram)",
        "DLA": "none on this board (not needed)",
        "CSI camera": "nvidia-l4t-gstreamer 36.4.3-20250107174145",
        "CUDA": "12.6: Orin (SM 8.7), driver 540.4.0",
        "CUDA toolkit": "12.6.11 in /usr/local/cuda",
        "TensorRT": "10.3.0",
        "pycuda": "2026.1",
        "folder": board.system,
        "FFmpeg": "yes",
        "GStreamer": "yes",
        "windows": "GTK2",
        "display": ":0",
    }
    assert all(line.present for line in run_checks(board).values())


def test_a_board_with_jetpack_7_2_is_reported_line_by_line(make: Callable[[str], Board]) -> None:
    board = make("jetpack-7.2")
    board.probes["tensorrt"] = ToolResult(0, "version 10.16.2.10\n")
    found = values(board)
    assert found["JetPack"] == "7.2.1 (L4T 39.2.1)"
    assert found["python"] == f"3.12 of {HOME}, sees what JetPack installed"
    assert found["power mode"] == "25W of 15W, 25W, MAXN_SUPER"
    assert found["GPU clock"] == "306 to 918 MHz, 306 now"  # by jetson_clocks: the report has no /sys
    assert found["CPU clock"] == "up to 1344 MHz, governor schedutil"
    assert found["memory"] == "7486 MiB for CPU and GPU together, 4505 free; swap 0 MiB"
    assert found["CUDA"] == "12.6: Orin (SM 8.7)"  # its driver calls itself TempVersion
    assert found["CUDA toolkit"] == "13.2.2 in /usr/local/cuda"
    assert found["TensorRT"] == "10.16.2.10"
    assert found["folder"] == "/usr/lib/python3.12/dist-packages"


def test_a_board_without_the_components_is_shown_what_to_install(make: Callable[[str], Board]) -> None:
    board = make("jetpack-7.2-agx")
    board.remove(f"{board.system}/tensorrt/__init__.py")
    board.remove(f"{board.venv}/pycuda/__init__.py")
    found = run_checks(board)
    assert found["JetPack"].value == "7.2 (L4T 39.2.0), nvidia-jetpack is not installed"
    assert found["DLA"].value == "2 (not used)"
    assert found["GPU clock"] == Check("jetson", "GPU clock", "1300 MHz, fixed")
    for name in ("TensorRT", "CUDA toolkit"):
        assert found[name].cure == "sudo apt update && sudo apt install nvidia-jetpack"
    assert found["pycuda"].cure.endswith("nvidia-jetpack, then PATH=/usr/local/cuda/bin:$PATH pip install pycuda")
    assert found["CSI camera"].cure == "sudo apt install nvidia-l4t-gstreamer nvidia-l4t-camera"


def test_a_thor_is_known_and_lacks_the_python_module(make: Callable[[str], Board]) -> None:
    board = make("jetpack-7.0-thor")
    board.remove(f"{board.system}/tensorrt/__init__.py")
    found = run_checks(board)
    assert found["board"].value == "NVIDIA Jetson AGX Thor Developer Kit (tegra264)"
    assert found["JetPack"].value == "7 (L4T 38.2.2), nvidia-jetpack is not installed"
    assert found["TensorRT"].value == "libnvinfer 10.13.3.9 is there, its Python module is not"
    assert found["TensorRT"].cure == "sudo apt update && sudo apt install python3-libnvinfer"


def test_tensorrt_8_is_too_old_and_states_that_10_3_is_needed(make: Callable[[str], Board]) -> None:
    found = run_checks(make("jetpack-6.0"))
    assert found["TensorRT"].value == "8.6.2.3 is too old: 10.3 is needed; ONNX Runtime serves"
    assert "TensorRT is 8.6, 10.3 is needed" in found["JetPack"].value
    for name in ("TensorRT", "JetPack"):
        assert not found[name].present
        assert found[name].cure.startswith("flash JetPack 6.2 or 7.2")


def test_a_tensorrt_that_pip_brought_is_too_old_as_well(make: Callable[[str], Board]) -> None:
    board = make("jetpack-6.2")
    board.probes["tensorrt"] = ToolResult(0, "version 8.6.1\n")
    assert run_checks(board)["TensorRT"].value.startswith("8.6.1 is too old")


@pytest.mark.parametrize("name", NAMES)
def test_whatever_is_missing_has_a_next_step_and_nothing_but_opencv_is_required(
    make: Callable[[str], Board], name: str
) -> None:
    found = run_checks(make(name)).values()
    assert all(line.cure for line in found if not line.present)
    assert not any(line.required for line in found)


def test_the_power_mode_is_known_without_its_tool(make: Callable[[str], Board]) -> None:
    board = make("jetpack-6.2")
    del board.tools["nvpmodel -q"]
    assert run_checks(board)["power mode"].value.startswith("25W of")
    board.remove("etc/nvpmodel.conf")
    assert run_checks(board)["power mode"].value == "mode 1"
    board.remove("var/lib/nvpmodel/status")
    assert run_checks(board)["power mode"].cure == "sudo nvpmodel -q"


def test_the_fastest_mode_is_found_by_its_name_and_not_by_its_number(make: Callable[[str], Board]) -> None:
    board = make("jetpack-6.2")
    assert run_checks(board)["power mode"].advice.startswith("sudo nvpmodel -m 2 (MAXN_SUPER")
    board.tools["nvpmodel -q"] = ToolResult(0, "NVPM VERB: Current mode: NV Power Mode: MAXN_SUPER\n2\n")
    assert run_checks(board)["power mode"].advice == ""


def test_clocks_that_follow_the_load_are_advised_to_be_held(make: Callable[[str], Board]) -> None:
    board = make("jetpack-6.2")
    assert run_checks(board)["GPU clock"].advice.startswith("sudo jetson_clocks")
    board.write("sys/class/devfreq/17000000.gpu/min_freq", "918000000\n")
    assert run_checks(board)["GPU clock"] == Check("jetson", "GPU clock", "918 MHz, fixed")


def test_a_tool_that_wants_root_is_named_with_sudo(make: Callable[[str], Board]) -> None:
    board = make("jetpack-7.2")
    board.tools["jetson_clocks --show"] = ToolResult(
        1, "Error: Run this script(/usr/bin/jetson_clocks) as a root user\n"
    )
    assert run_checks(board)["GPU clock"].cure == "sudo jetson_clocks --show"
    assert run_checks(board)["CPU clock"].cure == "sudo jetson_clocks --show"


def test_little_free_memory_has_advice_on_how_to_free_more(make: Callable[[str], Board]) -> None:
    board = make("jetpack-6.2")
    board.write("proc/meminfo", "MemTotal: 7802880 kB\nMemAvailable: 900000 kB\n")
    assert "isolate multi-user.target" in run_checks(board)["memory"].advice


def test_packages_that_were_updated_since_the_flash_are_reported(make: Callable[[str], Board]) -> None:
    board = make("jetpack-6.2")
    board.write("etc/nv_tegra_release", "# R36 (release), REVISION: 4.0, GCID: 37537400, BOARD: generic\n")
    assert run_checks(board)["JetPack"].value == "6.2 (L4T 36.4.0); nvidia-l4t-core is 36.4.3"


def test_a_release_that_came_after_us_is_no_error(make: Callable[[str], Board]) -> None:
    board = make("jetpack-7.2")
    board.forget("nvidia-jetpack")
    board.write("etc/nv_tegra_release", "# R39 (release), REVISION: 4.0, GCID: 1, BOARD: generic\n")
    assert run_checks(board)["JetPack"].value.startswith("7 (L4T 39.4.0), nvidia-jetpack is not installed")
    board.write("etc/nv_tegra_release", "# R41 (release), REVISION: 1.0, GCID: 1, BOARD: generic\n")
    assert run_checks(board)["JetPack"].value.startswith("of an unknown version (L4T 41.1.0)")


def test_jetpack_5_is_too_old(make: Callable[[str], Board]) -> None:
    board = make("jetpack-6.2")
    board.write("etc/nv_tegra_release", "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref\n")
    assert run_checks(board)["JetPack"].value == "L4T 35.4.1 is too old: JetPack 6.1 is needed"


def test_a_container_without_the_boards_files_states_which_to_mount(make: Callable[[str], Board]) -> None:
    board = make("jetpack-6.2")
    board.remove("etc/nv_tegra_release")
    board.remove("var/lib/dpkg/status")
    assert "mount /etc/nv_tegra_release" in run_checks(board)["JetPack"].cure


class TestPython:
    def test_an_environment_that_does_not_see_the_systems_packages(self, make: Callable[[str], Board]) -> None:
        board = make("jetpack-6.2")
        found = run_checks(dataclasses.replace(board.probe(), path=(board.venv,)))
        cure = f"/usr/bin/python3 -m venv --system-site-packages {HOME} (keeps what is installed there)"
        assert found["python"].cure == found["TensorRT"].cure == cure
        assert found["TensorRT"].value == "libnvinfer 10.3.0.30 is there, this Python does not see its module"

    def test_another_python_than_the_one_that_jetpack_is_built_for(self, make: Callable[[str], Board]) -> None:
        found = run_checks(dataclasses.replace(make("jetpack-6.2").probe(), version=(3, 12)))
        assert found["python"].value.endswith("JetPack's TensorRT and OpenCV are for 3.10")
        assert found["python"].cure.startswith("/usr/bin/python3 -m venv --system-site-packages ~/medtex")

    def test_a_python_that_is_not_the_systems(self, make: Callable[[str], Board]) -> None:
        found = run_checks(dataclasses.replace(make("jetpack-7.2").probe(), base_prefix="/home/nurse/miniconda3"))
        assert found["python"].value.endswith("sees neither JetPack's TensorRT nor its OpenCV")


class TestTensorRT:
    def test_a_missing_library_of_the_dla_is_named_with_its_package(self, make: Callable[[str], Board]) -> None:
        board = make("jetpack-6.2")
        error = "ImportError: libnvdla_compiler.so: cannot open shared object file: No such file or directory"
        board.probes["tensorrt"] = ToolResult(1, f"Traceback (most recent call last):\n  File ...\n{error}\n")
        found = run_checks(board)["TensorRT"]
        assert found.value == f"cannot be imported: {error}"
        assert found.cure == "sudo apt install nvidia-l4t-dla-compiler && sudo ldconfig"

    @pytest.mark.parametrize("done", [ToolResult(-11, ""), ToolResult(-1, "no answer within 20 s"), ToolResult(0, "")])
    def test_an_import_that_crashes_or_hangs_is_reported(self, make: Callable[[str], Board], done: ToolResult) -> None:
        board = make("jetpack-6.2")
        board.probes["tensorrt"] = done
        found = run_checks(board)["TensorRT"]
        assert not found.present
        assert found.value == f"cannot be imported: {done.text or 'it printed nothing'}"


class TestHiddenOpenCV:
    @pytest.fixture
    def board(self, make: Callable[[str], Board]) -> Board:
        board = make("jetpack-6.2")
        board.install(board.venv, "cv2")
        board.wheel(board.venv, "opencv_python-4.11.0.86")
        board.probes["cv2"] = WITHOUT_GSTREAMER
        return board

    def test_the_wheel_that_hides_jetpacks_own_is_named_with_its_cure(self, board: Board) -> None:
        found = run_checks(board)
        own = f"JetPack's own in {board.system}, the one with GStreamer"
        assert found["folder"].value == f"opencv-python 4.11.0.86 in {board.venv} hides {own}"
        cure = f"{HOME}/bin/python -m pip uninstall -y opencv-python"
        assert found["folder"].cure == found["GStreamer"].cure == cure
        assert not found["GStreamer"].present

    def test_after_the_cure_jetpacks_own_is_imported(self, board: Board) -> None:
        board.remove(f"{board.venv}/cv2/__init__.py")
        assert opencv.hidden(board.probe()) is None
        assert run_checks(board)["folder"] == Check("opencv", "folder", board.system)

    def test_all_wheels_of_the_folder_are_removed_and_numpy_2_replaced(self, board: Board) -> None:
        board.wheel(board.venv, "opencv_contrib_python_headless-4.11.0.86")
        board.wheel(board.venv, "opencv_scripts-1.0")
        board.numpy("2.2.6")
        python = f"{HOME}/bin/python"
        assert run_checks(board)["folder"].cure == (
            f"{python} -m pip uninstall -y opencv-contrib-python-headless opencv-python "
            f"&& {python} -m pip install 'numpy<2'"
        )

    def test_a_wheel_of_the_whole_system_needs_sudo(self, make: Callable[[str], Board]) -> None:
        board = make("jetpack-7.2")
        board.install(board.local, "cv2")
        board.wheel(board.local, "opencv_python_headless-4.11.0.86")
        board.probes["cv2"] = WITHOUT_GSTREAMER
        assert run_checks(board)["folder"].cure.startswith(
            f"sudo {HOME}/bin/python -m pip uninstall -y opencv-python-h"
        )

    def test_one_that_was_built_on_the_board_with_gstreamer_is_welcome(self, make: Callable[[str], Board]) -> None:
        board = make("jetpack-6.2")
        board.write(f"{board.local}/cv2.cpython-310-aarch64-linux-gnu.so", b"\x7fELF")
        assert opencv.hidden(board.probe()) == (board.local, board.system)
        assert run_checks(board)["folder"] == Check("opencv", "folder", board.local)

    def test_numpy_2_under_jetpacks_own_is_named_with_its_cure(self, make: Callable[[str], Board]) -> None:
        board = make("jetpack-6.2")
        board.numpy("2.2.6")
        output = "AttributeError: _ARRAY_API not found\nImportError: numpy.core.multiarray failed to import\n"
        board.probes["cv2"] = ToolResult(1, output)
        found = run_checks(board)["import"]
        assert found.required
        assert found.cure == f"{HOME}/bin/python -m pip install 'numpy<2'"

    def test_without_any_of_the_systems_the_cure_is_how_to_install_it(self, board: Board) -> None:
        board.remove(f"{board.system}/cv2/__init__.py")
        board.forget("libopencv-python")
        assert (
            run_checks(board)["GStreamer"].cure
            == "sudo apt update && sudo apt install libopencv-python (JetPack's own)"
        )


def test_a_machine_that_is_no_jetson_has_no_such_section(tmp_path: Path) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    (tmp_path / "proc/device-tree/compatible").write_bytes(b"raspberrypi,5-model-b\0brcm,bcm2712\0")
    found = machine.run_checks(dataclasses.replace(SystemProbe(), root=tmp_path))
    assert "jetson" not in {line.section for line in found}
    assert "Raspberry Pi 5 Model B Rev 1.0" in {line.value for line in found}


def test_the_command_prints_cures_and_advice_behind_an_arrow(
    make: Callable[[str], Board], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    board = make("jetpack-6.2")
    board.install(board.venv, "cv2")
    board.wheel(board.venv, "opencv_python-4.11.0.86")
    board.probes["cv2"] = WITHOUT_GSTREAMER
    monkeypatch.setattr(machine, "SystemProbe", board.probe)
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    power = next(index for index, line in enumerate(lines) if "power mode" in line)
    assert lines[power] == "  ok      power mode        25W of 15W, 25W, MAXN_SUPER, 7W"
    assert lines[power + 1].startswith("          -> sudo nvpmodel -m 2")
    hidden = next(index for index, line in enumerate(lines) if " hides JetPack's own" in line)
    assert lines[hidden].startswith("  missing folder")
    assert lines[hidden + 1] == f"          -> {HOME}/bin/python -m pip uninstall -y opencv-python"
    assert main(["doctor", "--json"]) == 0
    found = {line["name"]: line for line in json.loads(capsys.readouterr().out)["findings"]}
    assert found["JetPack"]["value"] == "6.2 (L4T 36.4.3)"
    assert found["power mode"]["advice"].startswith("sudo nvpmodel")
