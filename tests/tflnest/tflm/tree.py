"""Builds a source tree of TFLM, which the environment variable TFLM_ROOT names, and applications on it.

The tree must have its third-party sources where TFLM's own makefile puts them (tensorflow/lite/micro/tools/make/
downloads: flatbuffers, gemmlowp, ruy, and cmsis and cmsis_nn for their kernels); docs/tflm.md says how they get there.
Nothing is downloaded. What was compiled of TFLM is kept in the user's cache.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.tflnest.tflm.component import HERE, Toolset, lay_out, run, sources
from tflnest.device.sources import content_key
from tflnest.native.compiler import cache_folder

#: What the programs' resolver knows.
KERNELS = (
    "add",
    "conv",
    "depthwise_conv",
    "fully_connected",
    "pad",
    "pooling",
    "reduce",
    "reshape",
    "softmax",
    "transpose",
)
SHARED_KERNELS = ("activations_common", "kernel_util", "micro_tensor_utils")
DEFINES = (
    "-DTF_LITE_STATIC_MEMORY",
    "-DTF_LITE_DISABLE_X86_NEON",
    "-DNDEBUG",
    "-DKERNELS_OPTIMIZED_FOR_SPEED",
)
CXX = ("-std=c++17", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics", "-w")
#: Where the models are: firmware has it in a memory of its own.
MODELS_SECTION = ".models"
DOWNLOADS = "tensorflow/lite/micro/tools/make/downloads"
_FOLDERS = ("micro", "micro/arena_allocator", "micro/memory_planner", "micro/tflite_bridge")
_OUTSIDE = ("core/c", "core/api", "kernels", "kernels/internal")
_COMPILER = ("tensorflow/compiler/mlir/lite/core/api", "tensorflow/compiler/mlir/lite/schema")
_OTHERS = (
    "_test",
    "test_",
    "fake_",
    "mock_",
    "recording_",
    "debug_log",
    "non_persistent_arena_buffer_allocator_test",
)


def root() -> Path:
    """The tree; skips where there is none."""
    named = os.environ.get("TFLM_ROOT")
    if not named:
        pytest.skip("TFLM_ROOT does not name a source tree of TFLM")
    path = Path(named)
    if not (path / "tensorflow/lite/micro/micro_interpreter.h").is_file():
        pytest.fail(f"TFLM_ROOT is {path}, which is no source tree of TFLM")
    return path


def _is_wanted(path: Path) -> bool:
    return not any(part in path.stem for part in _OTHERS)


@dataclass(frozen=True)
class Tree:
    """A source tree and how it is compiled.

    Attributes:
        path: Its root.
        tools: Compilers and flags.
        has_cmsis: Whether CMSIS-NN's kernels take the place of the reference ones.
        own_log: Whether the program brings DebugLog along.
    """

    path: Path
    tools: Toolset
    has_cmsis: bool = False
    own_log: bool = False

    @property
    def include(self) -> tuple[Path, ...]:
        """Folders of headers."""
        names = ["flatbuffers/include", "gemmlowp", "ruy"]
        if self.has_cmsis:
            names += ["cmsis_nn", "cmsis_nn/Include", "cmsis", "cmsis/CMSIS/Core/Include"]
        found = [self.path / DOWNLOADS / name for name in names]
        missing = [path.name for path in found if not path.is_dir()]
        if missing:
            pytest.skip(f"the source tree of TFLM has no {', '.join(missing)}")
        return (self.path, *found)

    @property
    def flags(self) -> tuple[str, ...]:
        """Definitions of the build."""
        cmsis = ("-DCMSIS_NN", "-DARM_NN_ENABLE_F16=0", "-DARM_NN_ENABLE_F32=0") if self.has_cmsis else ()
        return (*DEFINES, *cmsis)

    def _kernels(self) -> Iterator[Path]:
        folder = self.path / "tensorflow/lite/micro/kernels"
        for name in KERNELS:
            optimized = folder / "cmsis_nn" / f"{name}.cc"
            yield optimized if self.has_cmsis and optimized.is_file() else folder / f"{name}.cc"
            common = folder / f"{name}_common.cc"
            if common.is_file():
                yield common
        yield from (folder / f"{name}.cc" for name in SHARED_KERNELS)

    def _framework(self) -> list[Path]:
        """Everything but kernels: the same with either kind of them."""
        base = self.path / "tensorflow/lite"
        found = [path for name in _FOLDERS for path in (base / name).glob("*.cc") if _is_wanted(path)]
        found += [path for name in _OUTSIDE for path in (base / name).glob("*.cc") if _is_wanted(path)]
        found += [path for name in _COMPILER for path in (self.path / name).glob("*.cc") if _is_wanted(path)]
        if not self.own_log:
            found.append(base / "micro/debug_log.cc")
        return sorted(set(found))

    def _all_kernels(self) -> list[Path]:
        found = list(self._kernels())
        if self.has_cmsis:
            source = self.path / DOWNLOADS / "cmsis_nn/Source"
            found += [path for path in source.rglob("*.c") if _is_integer(path)]
        return sorted(set(found))

    def files(self) -> list[Path]:
        """Everything of TFLM that an interpreter needs."""
        return sorted({*self._framework(), *self._all_kernels()})

    def library(self, folder: Path) -> Path:
        """Compile TFLM into a library; one of the same sources, compiler and flags is taken from the cache."""
        base = _archive(replace(self, has_cmsis=False), self._framework(), folder / "framework")
        return _archive(self, self._all_kernels(), folder / "kernels", base)

    def program(self, folder: Path, settings: Sequence[str], extra: Sequence[str] = ()) -> list[Path]:
        """Compile the component and the program on it; returns the object files.

        Args:
            folder: Where everything is written.
            settings: Flags of the program.
            extra: Flags of both.
        """
        component = lay_out(folder / "component")
        flags = (*self.tools.flags, *self.flags, *extra)
        own = Toolset(self.tools.c, self.tools.cxx, flags).compile(
            sources(component), (component,), folder / "own", system=self.include
        )
        tools = Toolset(self.tools.c, self.tools.cxx, (*flags, *settings))
        program = HERE / "program/runner.cc"
        return [*own, *tools.compile([program], (component,), folder / "main", (), CXX, self.include)]


def host_tree(path: Path) -> Tree:
    """A tree of TFLM, compiled for this machine; skips where there is no compiler."""
    built = Tree(path, Toolset(flags=("-O1", "-DTFLNEST_VARIANT=0")))
    built.tools.require()
    return built


def _archive(tree: Tree, files: Sequence[Path], folder: Path, base: Path | None = None) -> Path:
    """A library of some files, and of what is in another one."""
    tools = Toolset(tree.tools.c, tree.tools.cxx, (*tree.tools.flags, *tree.flags))
    version = run([tools.cxx, "--version"]).stdout
    names = [version, str(tree.path), *tools.flags, *CXX, "" if base is None else base.name]
    archive = cache_folder() / f"tflm-{content_key(chr(0).join(names), files)}.a"
    if not archive.is_file():
        objects = tools.compile(files, (), folder, ("-std=c99", "-w"), CXX, tree.include)
        made = folder / "libtflm.a"
        if base is not None:
            shutil.copyfile(base, made)
        run([tools.cxx.replace("g++", "ar"), "qs", made, *objects])
        shutil.copyfile(made, archive.with_suffix(".part"))
        archive.with_suffix(".part").replace(archive)
    return archive


def _is_integer(path: Path) -> bool:
    """Whether a file of CMSIS-NN computes with integers."""
    return (
        not path.stem.endswith(("_f16", "_f32"))
        and "Bindings" not in path.parts
        and path.stem != "arm_nntables_flt"
    )


def models(folder: Path, parts: Mapping[str, bytes]) -> Path:
    """An assembler source that holds two models, the inputs, page images and a script, under these names."""
    lines = []
    for name, content in parts.items():
        (folder / name).write_bytes(content)
        lines += [f".global {name}_start, {name}_end", ".balign 16", f"{name}_start:"]
        lines += [f'.incbin "{folder / name}"', f"{name}_end:"]
    path = folder / "models.S"
    note = ["#ifdef __linux__", '.section .note.GNU-stack,"",%progbits', "#endif"]
    text = [f'.section {MODELS_SECTION},"aw",%progbits', *lines, ".byte 0", *note, ""]
    path.write_text("\n".join(text))
    return path
