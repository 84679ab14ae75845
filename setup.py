"""Build and metadata of tflnest."""

from pathlib import Path
from typing import Any

from setuptools import Extension, find_packages, setup

ROOT = Path(__file__).parent
VERSION = {}
exec((ROOT / "tflnest" / "version.py").read_text(encoding="utf-8"), VERSION)


def source_tools() -> dict[str, Any]:
    """The functions of the module that knows the C sources, without what it does not need."""
    tools = {"__file__": str(ROOT / "tflnest" / "device" / "sources.py"), "__name__": "sources"}
    exec(Path(tools["__file__"]).read_text(encoding="utf-8"), tools)
    return tools


def plugin() -> Extension:
    """The delegate for stock TensorFlow Lite for this machine's family; see `native_runtime`."""
    tools = source_tools()
    files = tools["plugin_files"]()
    return Extension(
        "tflnest.plugin._plugin",
        [path.relative_to(ROOT).as_posix() for path in files if path.suffix == ".c"],
        depends=[str(path) for path in files],
        include_dirs=[f"tflnest/runtime/{folder}" for folder in ("include", "src", "nested", "plugin")],
        define_macros=[("TFLNEST_KEY", f'"{tools["content_key"]("", files)}"')],
        extra_compile_args=["-std=c99", "-O3", "-fvisibility=hidden"],
        optional=True,
    )


def native_runtime() -> Extension:
    """The device's C kernels for this machine's family, for the native engine where there is no compiler later.

    The install goes on where it cannot be built. It is no Python module: ctypes loads it.
    """
    tools = source_tools()
    dispatch = "tflnest/native/dispatch.c"
    text = (ROOT / dispatch).read_text(encoding="ascii")
    files = tools["needed_files"](tools["included"](text), host=True)
    sources = [path.relative_to(ROOT).as_posix() for path in files if path.suffix == ".c"]
    return Extension(
        "tflnest.native._runtime",
        [dispatch, *sources],
        depends=[str(path) for path in files],
        include_dirs=["tflnest/runtime/include", "tflnest/runtime/src"],
        define_macros=[("TFLNEST_KEY", f'"{tools["content_key"](text, files)}"')],
        extra_compile_args=["-std=c99", "-O3"],
        optional=True,
    )


KERAS = ["tensorflow>=2.16"]
SERIAL = ["pyserial>=3.5", "cobs>=1.2"]
PLOT = ["matplotlib>=3.7"]
# Programs that put firmware onto boards; "all" does without them.
FLASH = ["pyocd>=0.36", "esptool>=5"]
# Clusters that a search may run on; "all" does without them.
DASK = ["dask>=2024.1", "distributed>=2024.1"]
RAY = ["ray>=2.9"]
TEST = [
    "pytest>=8",
    "pytest-xdist>=3.5",
    "hypothesis>=6.100",
    "scikit-learn>=1.4",
    "pillow>=10",
    "ruff>=0.6",
    "mypy>=1.11",
    # What exported components are built with, and what reads their manifests.
    "cmake>=3.20",
    "kconfiglib>=14",
    "pyyaml>=6",
    # The second backend that nested training is tested on.
    "jax[cpu]>=0.4.30",
    # The oracle. Only pre-releases exist, so the version is named.
    "tflite-micro==0.dev20261023182759; platform_system == 'Linux' and platform_machine == 'x86_64'",
]

setup(
    name="tflnest",
    version=VERSION["__version__"],
    description="One .tflite file, several integer precisions: nest, run, simulate and page on microcontrollers",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(
        include=["tflnest", "tflnest.*", "converters", "converters.*", "firmware_sim", "firmware_sim.*"]
    ),
    package_data={
        "tflnest": [
            "py.typed",
            "runtime/include/tflnest/*.h",
            "runtime/src/*.c",
            "runtime/src/*.h",
            "runtime/nested/*.c",
            "runtime/nested/*.h",
            "runtime/plugin/*.c",
            "runtime/plugin/*.h",
            "runtime/tflm/*.c",
            "runtime/tflm/*.cc",
            "runtime/tflm/*.h",
            "native/dispatch.c",
        ],
        "converters": ["py.typed", "presets/*.toml"],
        "firmware_sim": [
            "py.typed",
            "*.json",
            "boards/*.toml",
            "plugins/*.c",
            "ports/*.[ch]",
            "ports/*.ld",
            "firmware/*.json",
            "firmware/templates/*",
            "component/templates/*",
            "component/templates/*/*",
        ],
    },
    ext_modules=[native_runtime(), plugin()],
    install_requires=[
        "numpy>=1.26",
        "flatbuffers>=24.3",
        "pyelftools>=0.32",
        "ai-edge-litert>=1.4",
        "click>=8.1",
        "joblib>=1.3",
        "rich>=13",
    ],
    extras_require={
        "keras": KERAS,
        "serial": SERIAL,
        "plot": PLOT,
        "flash": FLASH,
        "dask": DASK,
        "ray": RAY,
        "test": TEST + SERIAL + PLOT,
        "examples": [*KERAS, *PLOT, "scikit-learn>=1.4"],
        "all": KERAS + SERIAL + PLOT,
    },
    entry_points={"console_scripts": ["tflnest = tflnest.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Software Development :: Embedded Systems",
    ],
)
