"""C in packages: built as far as the tools are here, run, and held to their formats."""

from __future__ import annotations

import configparser
import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models_by_hand import random_model
from test_block_variants import model_of

import s4edge
from s4edge import S4EdgeError
from s4edge.export.c.c_file import ExportedC
from s4edge.export.c.packages.kinds import KINDS
from s4edge.export.c.packages.package import version_of
from s4edge.export.lowering.lower import lower
from s4edge.export.lowering.reference import run
from s4edge.model.sequence_model import SequenceModel

STAND_INS = Path(__file__).parent / "stand_ins"
pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc here (apt install gcc)")
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1")
NAME = "wake_word_2_1"

needs_cmake = pytest.mark.skipif(
    shutil.which("cmake") is None, reason="no cmake here (apt install cmake)"
)
needs_cxx = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here (apt install g++)")


@dataclass(frozen=True)
class Exported:
    """A model in all kinds of packages.

    Attributes:
        c: what was written.
        x: (samples, d_input) of a stream.
        y: (samples, d_output) that the float64 reference gives.
    """

    c: ExportedC
    x: np.ndarray[Any, Any]
    y: np.ndarray[Any, Any]

    def folder(self, kind: str) -> Path:
        return self.c.packages[kind]

    @property
    def text(self) -> str:
        """The samples as they go into a program."""
        return "".join(" ".join(f"{v:.9g}" for v in row) + "\n" for row in self.x)

    def check(self, said: str) -> None:
        """What a program printed: that its self-test is right, and answers."""
        lines = said.splitlines()
        assert "self-test: ok" in said
        answers = [list(map(float, line.split())) for line in lines if "self-test" not in line]
        assert len(answers) == len(self.y)
        np.testing.assert_allclose(answers, self.y, rtol=1e-4, atol=1e-5 * np.abs(self.y).max())


def export(model: SequenceModel, path: Path, *kinds: str) -> Exported:
    program = lower(model)
    rng = np.random.default_rng(0)
    if program.tokens:
        x = rng.integers(0, program.tokens, (20, 1)).astype(np.float32)
    else:
        x = rng.standard_normal((20, program.d_input)).astype(np.float32)
    return Exported(s4edge.export_c(model, path, packages=kinds), x, run(program, x)[0])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Of 2 inputs and 3 outputs; tests build elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CC", "gcc -O0")
        path = tmp_path_factory.mktemp("packages") / "wake-word-2.1.c"
        return export(random_model(), path, *KINDS)


@pytest.fixture(autouse=True)
def quick_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "gcc -O0")


def call(*command: str | Path, text: str = "", folder: Path | None = None, fails: bool = False,
         environment: Mapping[str, str] | None = None) -> str:  # fmt: skip
    """What a program prints, on both streams."""
    done = subprocess.run(
        [str(word) for word in command], input=text, capture_output=True, text=True, check=False,
        cwd=folder, env=None if environment is None else {**environment}, timeout=120,
    )  # fmt: skip
    assert (done.returncode != 0) == fails, (done.stdout + done.stderr)[-3000:]
    return done.stderr + done.stdout


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


OTHERS = {
    "cmake": {
        "CMakeLists.txt", f"cmake/{NAME}-config.cmake.in", "example/main.c", "test/selftest.c",
    },
    "arduino": {"library.properties", "keywords.txt", "examples/StreamSerial/StreamSerial.ino"},
    "platformio": {
        "library.json", "examples/stream/platformio.ini", "examples/stream/src/board.cpp",
        "examples/stream/src/host.c",
    },
    "esp-idf": {
        "CMakeLists.txt", "idf_component.yml", "examples/stream/CMakeLists.txt",
        "examples/stream/sdkconfig.defaults", "examples/stream/main/CMakeLists.txt",
        "examples/stream/main/main.c",
    },
    "zephyr": {
        "zephyr/module.yml", "zephyr/CMakeLists.txt", "zephyr/Kconfig",
        "samples/stream/CMakeLists.txt", "samples/stream/prj.conf", "samples/stream/sample.yaml",
        "samples/stream/src/main.c",
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_in_a_package(kind: str, exported: Exported) -> None:
    folder = exported.folder(kind)
    assert folder == exported.c.output.parent / f"{NAME}-{kind}"
    header = "src" if kind == "arduino" else "include"
    both = {f"src/{NAME}.c", f"{header}/{NAME}.h"}
    assert files(folder) == both | OTHERS[kind] | {"README.md", ".s4edge.json"}
    code = (folder / "src" / f"{NAME}.c").read_text()
    assert code.count(f'#include "{NAME}.h"') == 1
    assert code.replace(f'"{NAME}.h"', '"wake-word-2.1.h"') == exported.c.output.read_text()
    assert (folder / header / f"{NAME}.h").read_text() == exported.c.header.read_text()
    for name in files(folder):
        text = (folder / name).read_text()
        assert "{{" not in text.replace("= {{", "")
        assert "{%" not in text
        assert text.endswith("\n")
        assert not text.endswith("\n\n"), name
        assert str(exported.c.output.parent) not in text
    told = (folder / "README.md").read_text()
    assert f"{exported.c.state_bytes:,} bytes for each stream" in told
    assert f"{exported.c.weight_bytes:,} bytes of constants" in told


@pytest.mark.parametrize(("stem", "version"), [
    ("model", "1.0.0"), ("model-s16", "1.0.0"), ("wake-word-2.1", "2.1.0"), ("m_v3.0.12", "3.0.12"),
    ("m 1.2.3", "1.2.3"), ("m-1.02", "1.0.0"), ("m-1.2.3.4", "1.0.0"), ("m1.2", "1.0.0"),
])  # fmt: skip
def test_versions_from_names(stem: str, version: str) -> None:
    assert version_of(stem) == version


# CMake


@pytest.fixture(scope="module")
def built(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cmake") / "build"
    strict = f"-DCMAKE_C_FLAGS={' '.join(STRICT)}"
    call("cmake", "-S", exported.folder("cmake"), "-B", folder, strict)
    call("cmake", "--build", folder)
    return folder


@needs_cmake
def test_cmake_builds_tests_and_streams(exported: Exported, built: Path) -> None:
    assert "100% tests passed, 0 tests failed out of 1" in call("ctest", "--test-dir", built)
    exported.check(call(built / f"{NAME}_example", text=exported.text))
    # Any blanks and commas, words that are no numbers, and no end of the last line.
    text = exported.text.replace(" ", ", ").replace("\n", "\r\n\t oops 1.2.3 \n")[:-1]
    exported.check(call(built / f"{NAME}_example", text=text))


USER = f"""cmake_minimum_required(VERSION 3.14)
project(user C)
{{found}}
add_executable(user main.c)
target_link_libraries(user PRIVATE {NAME}::{NAME})
"""
MAIN = f"#include <{NAME}.h>\nint main(void) {{ return {NAME}_selftest(); }}\n"


def user(folder: Path, found: str, *options: str) -> None:
    """A project of a user of the package, built and run."""
    folder.mkdir()
    (folder / "CMakeLists.txt").write_text(USER.format(found=found))
    (folder / "main.c").write_text(MAIN)
    call("cmake", "-S", folder, "-B", folder / "build", *options)
    call("cmake", "--build", folder / "build")
    call(folder / "build" / "user")
    assert not list((folder / "build").rglob(f"{NAME}_example"))


@needs_cmake
def test_cmake_in_another_project(exported: Exported, built: Path, tmp_path: Path) -> None:
    call("cmake", "--install", built, "--prefix", tmp_path / "installed")
    prefix = f"-DCMAKE_PREFIX_PATH={tmp_path / 'installed'}"
    user(tmp_path / "found", f"find_package({NAME} 2.1 REQUIRED)", prefix)
    user(tmp_path / "within", f"add_subdirectory({exported.folder('cmake')} model)")
    shared = tmp_path / "shared"
    source = exported.folder("cmake")
    call("cmake", "-S", source, "-B", shared, "-DBUILD_SHARED_LIBS=ON", "-DCMAKE_BUILD_TYPE=Debug")
    call("cmake", "--build", shared)
    call("cmake", "--install", shared, "--prefix", tmp_path / "so")
    assert (tmp_path / "so" / "lib" / f"libs4edge_{NAME}.so.2.1.0").is_file()
    for version in ("3.0", "2.2"):
        (tmp_path / "found" / "CMakeLists.txt").write_text(
            USER.format(found=f"find_package({NAME} {version} REQUIRED)")
        )
        again = ("cmake", "-S", tmp_path / "found", "-B", tmp_path / "found" / version, prefix)
        assert "compatible" in call(*again, fails=True)


@needs_cmake
@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_weight_is_noticed(kind: str, exported: Exported, tmp_path: Path) -> None:
    folder = tmp_path / kind
    shutil.copytree(exported.folder(kind), folder)
    source = folder / "src" / f"{NAME}.c"
    found = re.search(
        r"float block_0_mixing_weight\[\d+\][^=\n]* = {\n    ([-\d.e]+)f", source.read_text()
    )
    assert found
    text = source.read_text()
    source.write_text(text[: found.start(1)] + "3.25" + text[found.end(1) :])
    if kind == "cmake":
        call("cmake", "-S", folder, "-B", folder / "b")
        call("cmake", "--build", folder / "b")
        assert "0% tests passed" in call("ctest", "--test-dir", folder / "b", fails=True)
        program = folder / "b" / f"{NAME}_example"
    else:
        program = BUILD[kind](folder, tmp_path / "b")
    assert "comes out wrong" in call(program, text=exported.text, fails=kind != "zephyr")


@needs_cmake
def test_cmake_for_another_machine(exported: Exported, tmp_path: Path) -> None:
    compiler, emulator = "aarch64-linux-gnu-gcc", shutil.which("qemu-aarch64-static")
    if shutil.which(compiler) is None or emulator is None:
        pytest.skip("no gcc-aarch64-linux-gnu or no qemu-user-static here")
    call(
        "cmake", "-S", exported.folder("cmake"), "-B", tmp_path, "-DCMAKE_SYSTEM_NAME=Linux",
        f"-DCMAKE_C_COMPILER={compiler}", "-DCMAKE_EXE_LINKER_FLAGS=-static",
        f"-DCMAKE_CROSSCOMPILING_EMULATOR={emulator}",
    )  # fmt: skip
    call("cmake", "--build", tmp_path)
    assert "100% tests passed" in call("ctest", "--test-dir", tmp_path)
    exported.check(call(emulator, tmp_path / f"{NAME}_example", text=exported.text))


@needs_cmake
def test_cmake_for_a_microcontroller(exported: Exported, tmp_path: Path) -> None:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("no gcc-arm-none-eabi here")
    toolchain = tmp_path / "cortex-m4.cmake"
    toolchain.write_text("""set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR cortex-m4)
set(CMAKE_C_COMPILER arm-none-eabi-gcc)
set(CMAKE_C_FLAGS_INIT "-mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard")
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
""")
    command = ("cmake", "-S", exported.folder("cmake"), f"-DCMAKE_TOOLCHAIN_FILE={toolchain}")
    call(*command, "-B", tmp_path / "library", f"-D{NAME.upper()}_PROGRAMS=OFF")
    call("cmake", "--build", tmp_path / "library")
    assert (tmp_path / "library" / f"libs4edge_{NAME}.a").is_file()
    assert not (tmp_path / "library" / f"{NAME}_example").exists()
    call(*command, "-B", tmp_path / "program", "-DCMAKE_EXE_LINKER_FLAGS=--specs=nosys.specs")
    call("cmake", "--build", tmp_path / "program")


# Arduino


def sketch(source: Path, includes: Path, code: Path, folder: Path) -> Path:
    """A sketch, compiled for this machine on a stand-in for Arduino's core."""
    folder.mkdir()
    arduino = STAND_INS / "arduino"
    call("gcc", *STRICT, f"-I{includes}", "-c", code, "-o", folder / "model.o")
    call(
        "g++", "-std=c++17", *STRICT, "-include", "Arduino.h", f"-I{arduino}", f"-I{includes}",
        "-x", "c++", source, arduino / "main.cpp", "-x", "none", folder / "model.o",
        "-o", folder / "sketch",
    )  # fmt: skip
    return folder / "sketch"


def build_arduino(package: Path, folder: Path) -> Path:
    source = package / "examples" / "StreamSerial" / "StreamSerial.ino"
    return sketch(source, package / "src", package / "src" / f"{NAME}.c", folder)


@needs_cxx
def test_arduino_sketch_streams(exported: Exported, tmp_path: Path) -> None:
    program = build_arduino(exported.folder("arduino"), tmp_path / "b")
    exported.check(call(program, text=exported.text))


def test_arduino_metadata(exported: Exported) -> None:
    """The rules of the library specification, revision 2.2."""
    folder = exported.folder("arduino")
    lines = (folder / "library.properties").read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines)
    assert list(found) == [
        "name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url",
        "architectures", "includes",
    ]  # fmt: skip
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,62}", found["name"])
    assert found["version"] == "2.1.0"
    assert found["category"] == "Data Processing"
    assert found["url"].startswith("https://")
    assert (folder / "src" / found["includes"]).is_file()
    assert found["sentence"].endswith("2 numbers in, 3 numbers out.")
    for example in (folder / "examples").iterdir():
        assert (example / f"{example.name}.ino").is_file()
    header = exported.c.header.read_text()
    keywords = [
        line.split("\t") for line in (folder / "keywords.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]  # fmt: skip
    for word, kind in keywords:
        assert re.search(rf"\b{word}\b", header)
        assert kind in {"KEYWORD1", "KEYWORD2", "LITERAL1"}
    told = {word for word, _ in keywords}
    assert set(re.findall(rf"\b{NAME}_\w+(?=\()", header)) <= told
    # The include guard is no word of theirs.
    assert set(re.findall(rf"#define ({NAME.upper()}_\w+)", header)) - {f"{NAME.upper()}_H"} <= told


# PlatformIO


def build_platformio(package: Path, folder: Path) -> Path:
    source = package / "examples" / "stream" / "src" / "host.c"
    folder.mkdir()
    code = package / "src" / f"{NAME}.c"
    program = folder / "host"
    call("gcc", "-std=c99", *STRICT, f"-I{package / 'include'}", source, code, "-o", program)
    return program


def test_platformio_on_this_machine(exported: Exported, tmp_path: Path) -> None:
    exported.check(
        call(build_platformio(exported.folder("platformio"), tmp_path / "b"), text=exported.text)
    )


@needs_cxx
def test_platformio_on_a_board(exported: Exported, tmp_path: Path) -> None:
    package = exported.folder("platformio")
    source = package / "examples" / "stream" / "src" / "board.cpp"
    code = package / "src" / f"{NAME}.c"
    program = sketch(source, package / "include", code, tmp_path / "b")
    exported.check(call(program, text=exported.text))


def test_platformio_metadata(exported: Exported) -> None:
    folder = exported.folder("platformio")
    found = json.loads((folder / "library.json").read_text())
    assert (found["name"], found["version"]) == (NAME, "2.1.0")
    assert len(found["name"]) <= 50
    assert len(found["description"]) <= 255
    assert all(re.fullmatch(r"[a-z\d\-_+. ]{1,50}", word) for word in found["keywords"])
    assert (folder / "include" / found["headers"]).is_file()
    for example in found["examples"]:
        for name in example["files"]:
            assert (folder / example["base"] / name).is_file()
    project = folder / "examples" / "stream"
    settings = configparser.ConfigParser()
    settings.read(project / "platformio.ini")
    assert settings["env:native"]["platform"] == "native"
    name, _, link = settings["env"]["lib_deps"].partition("=symlink://")
    assert name == NAME
    assert (project / link).resolve() == folder.resolve()
    for section in settings.values():
        source = re.fullmatch(r"\+<(.*)>", section.get("build_src_filter", "+<host.c>"))
        assert source
        assert (project / "src" / source[1]).is_file()


def test_platformio_packs_it(exported: Exported, tmp_path: Path) -> None:
    """Its own check of a manifest, where it is installed."""
    if shutil.which("pio") is None:
        pytest.skip("no pio here (pip install platformio)")
    call("pio", "pkg", "pack", "-o", tmp_path / "packed.tar.gz", exported.folder("platformio"))
    assert (tmp_path / "packed.tar.gz").is_file()


# ESP-IDF


def build_idf(package: Path, folder: Path) -> Path:
    environment = {"PATH": "/usr/bin:/bin", "IDF_PATH": str(STAND_INS / "esp-idf")}
    source = package / "examples" / "stream"
    call("cmake", "-S", source, "-B", folder, environment=environment)
    call("cmake", "--build", folder, environment=environment)
    return folder / f"{NAME}_stream.elf"


@needs_cmake
def test_idf_example_streams(exported: Exported, tmp_path: Path) -> None:
    program = build_idf(exported.folder("esp-idf"), tmp_path / "b")
    exported.check(call(program, text=exported.text))


def stack(exported: Exported) -> int:
    """The least that the self-test needs."""
    return exported.c.state_bytes + exported.c.chunk_scratch_bytes


def test_idf_metadata(exported: Exported) -> None:
    yaml = pytest.importorskip("yaml")
    folder = exported.folder("esp-idf")
    found = yaml.safe_load((folder / "idf_component.yml").read_text())
    assert set(found) == {"version", "description", "dependencies"}
    assert found["version"] == "2.1.0"
    assert found["dependencies"] == {"idf": ">=5.0"}
    defaults = (folder / "examples" / "stream" / "sdkconfig.defaults").read_text()
    (size,) = re.findall(r"^CONFIG_ESP_MAIN_TASK_STACK_SIZE=(\d+)$", defaults, re.M)
    assert stack(exported) + 1024 < int(size) < stack(exported) + 6000


def test_idf_component_manager_takes_it(exported: Exported) -> None:
    manager = pytest.importorskip("idf_component_tools.manager", exc_type=ImportError)
    found = manager.ManifestManager(str(exported.folder("esp-idf")), NAME).validate()
    assert found.validation_errors == []


# Zephyr


def build_zephyr(package: Path, folder: Path) -> Path:
    environment = {"PATH": "/usr/bin:/bin", "ZEPHYR_BASE": str(STAND_INS / "zephyr")}
    source = package / "samples" / "stream"
    call("cmake", "-S", source, "-B", folder, environment=environment)
    call("cmake", "--build", folder, environment=environment)
    return folder / "app"


@needs_cmake
def test_zephyr_sample_streams(exported: Exported, tmp_path: Path) -> None:
    program = build_zephyr(exported.folder("zephyr"), tmp_path / "b")
    exported.check(call(program, text=exported.text))


def test_zephyr_metadata(exported: Exported) -> None:
    yaml = pytest.importorskip("yaml")
    folder = exported.folder("zephyr")
    module = yaml.safe_load((folder / "zephyr" / "module.yml").read_text())
    assert set(module) == {"name", "build", "samples"}
    assert (folder / module["build"]["cmake"] / "CMakeLists.txt").is_file()
    assert (folder / module["build"]["kconfig"]).is_file()
    sample = folder / module["samples"][0] / "stream"
    told = yaml.safe_load((sample / "sample.yaml").read_text())
    assert told["sample"]["name"] == NAME
    (test,) = told["tests"]
    assert test == f"sample.s4edge.{NAME}"
    common = told["common"]
    assert common["min_ram"] * 1024 > exported.c.state_bytes + stack(exported)
    assert common["min_flash"] * 1024 > exported.c.weight_bytes
    source = (sample / "src" / "main.c").read_text()
    assert all(text in source for text in common["harness_config"]["regex"])
    options = dict(re.findall(r"^CONFIG_(\w+)=(.*)$", (sample / "prj.conf").read_text(), re.M))
    assert options[f"S4EDGE_{NAME.upper()}"] == "y"
    assert stack(exported) + 1024 < int(options["MAIN_STACK_SIZE"]) < stack(exported) + 6000


def test_zephyr_option(exported: Exported, tmp_path: Path) -> None:
    kconfiglib = pytest.importorskip("kconfiglib")
    root = tmp_path / "Kconfig"
    option = exported.folder("zephyr") / "zephyr" / "Kconfig"
    root.write_text(
        'config CPU_HAS_FPU\n\tbool "there"\nconfig FPU\n\tbool "used"\n\t'
        f'depends on CPU_HAS_FPU\nsource "{option}"\n'
    )
    for has in (0, 2):
        found = kconfiglib.Kconfig(str(root))
        found.syms["CPU_HAS_FPU"].set_value(has)
        found.syms[f"S4EDGE_{NAME.upper()}"].set_value(2)
        assert found.syms["FPU"].tri_value == has
        assert not found.warnings


BUILD = {
    "arduino": build_arduino, "platformio": build_platformio, "esp-idf": build_idf,
    "zephyr": build_zephyr,
}  # fmt: skip


# Other models, names and mistakes


def test_tokens(tmp_path: Path) -> None:
    model = model_of("plain", encoder="embedding", d_input=11)
    exported = export(model, tmp_path / f"{NAME}.c", "platformio", "arduino")
    exported.check(call(build_platformio(exported.folder("platformio"), tmp_path / "b"),
                        text=exported.text))  # fmt: skip
    assert "a token below 11 in" in (exported.folder("arduino") / "library.properties").read_text()


@needs_cmake
@pytest.mark.parametrize("name", ["m", "test"])
def test_names_that_mean_something_to_cmake(name: str, tmp_path: Path) -> None:
    """A library that linkers know, a target of CMake's own."""
    exported = export(random_model(), tmp_path / f"{name}.c", "cmake")
    call("cmake", "-S", exported.folder("cmake"), "-B", tmp_path / "b")
    call("cmake", "--build", tmp_path / "b")
    exported.check(call(tmp_path / "b" / f"{name}_example", text=exported.text))


def test_names_that_mean_something_to_yaml(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    folder = export(random_model(), tmp_path / "no.c", "zephyr").folder("zephyr")
    sample = yaml.safe_load((folder / "samples" / "stream" / "sample.yaml").read_text())
    assert sample["sample"]["name"] == "no"


def test_names_that_cannot_be(tmp_path: Path) -> None:
    model = random_model()
    for name, kinds, says in (
        ("Arduino-words.c", ["arduino"], "Arduino library cannot be named Arduino_words: names"),
        ("Wire.c", ["cmake", "arduino"], "its header Wire.h would hide one of Arduino's own"),
        ("math.c", ["cmake"], "CMake project cannot be named math: its header math.h would hide"),
        ("String.c", ["zephyr"], "its header String.h would hide the C library's <string.h>"),
        ("n" * 51 + ".c", ["platformio"], "names of its libraries have at most 50 letters"),
        ("m.c", ["make"], "the package 'make' is unknown; known: cmake, arduino, platformio"),
    ):
        with pytest.raises(S4EdgeError, match=re.escape(says)):
            s4edge.export_c(model, tmp_path / name, packages=kinds)
        assert not list(tmp_path.iterdir())
    for name, kinds in (("Arduino-words.c", ["cmake"]), ("math.c", []), ("Wire.c", ["esp-idf"])):
        assert set(s4edge.export_c(model, tmp_path / name, packages=kinds).packages) == set(kinds)


def test_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC")
    exported = s4edge.export_c(random_model(), tmp_path / "m.c", packages=["cmake"])
    assert exported.compiler is None
    assert "has not been run" in (exported.packages["cmake"] / "src" / "m.c").read_text()


def test_without_jinja2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "s4edge.export.c.packages.package.find_spec",
        lambda name: None if name == "jinja2" else find(name),
    )
    with pytest.raises(S4EdgeError, match=r"this needs jinja2, .*s4edge\[toolchain\]"):
        s4edge.export_c(random_model(), tmp_path / "m.c", packages=["cmake"])
    assert not list(tmp_path.iterdir())
    assert s4edge.export_c(random_model(), tmp_path / "m.c").packages == {}
