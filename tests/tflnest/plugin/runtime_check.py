"""Runs nested files in whatever TensorFlow Lite runtime this Python has; needs numpy alone beside it.

    python runtime_check.py MODULE LIBRARY CASES.npz

`CASES.npz` has the nested file, an input, the levels, and for each level the materialized file and the output of the
reference interpreter. Prints one line of JSON: for each check its name and whether it held.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np


def run(interpreter, x):
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def check(module, library, cases, folder):
    results = {}
    x, content = cases["x"], cases["nested"].tobytes()
    path = folder / "nested.tflite"
    path.write_bytes(content)
    resolvers = module.OpResolverType
    reference = {"experimental_op_resolver_type": resolvers.BUILTIN_REF}
    for level in cases["levels"]:
        plain = cases[f"plain_{level}"].tobytes()
        for mode in ("speed", "memory"):
            delegates = [module.load_delegate(library, {"level": str(level), "mode": mode})]
            for source in ({"model_path": str(path)}, {"model_content": content}):
                name = f"{mode} {level} {next(iter(source))}"
                ours = module.Interpreter(**source, experimental_delegates=delegates, **reference)
                results[name] = np.array_equal(run(ours, x), cases[f"y_{level}"])
                ours = module.Interpreter(
                    **source,
                    experimental_delegates=delegates,
                    experimental_preserve_all_tensors=True,
                    **reference,
                )
                results[f"{name} preserved"] = np.array_equal(run(ours, x), cases[f"y_{level}"])
            ours = module.Interpreter(str(path), experimental_delegates=delegates, num_threads=2)
            difference = run(ours, x).astype(int) - run(module.Interpreter(model_content=plain), x)
            exact = mode == "speed" and has_own_kernels(module)
            results[f"{mode} {level} as it comes"] = bool(np.abs(difference).max() <= (0 if exact else 8))
            ours.resize_tensor_input(0, [4, *x.shape[1:]])
            four = run(ours, np.concatenate([x] * 4))
            results[f"{mode} {level} batch"] = all(np.array_equal(row, four[0]) for row in four)
    results["switch"] = switch(module, library, cases, path, reference)
    return results


def has_own_kernels(module):
    """Whether the runtime's delegate takes int8 convolutions; in tflite-runtime it does not."""
    return not module.__name__.startswith("tflite_runtime")


def switch(module, library, cases, path, reference):
    delegate = module.load_delegate(library, {"mode": "memory", "session": "3"})
    ours = module.Interpreter(str(path), experimental_delegates=[delegate], **reference)
    plugin = ctypes.CDLL(library)
    for level in [*cases["levels"], *cases["levels"][::-1]]:
        if plugin.tflnest_plugin_set_level(ctypes.c_uint64(3), int(level)) != 0:
            return False
        if not np.array_equal(run(ours, cases["x"]), cases[f"y_{level}"]):
            return False
    return True


def main():
    module = importlib.import_module(sys.argv[1])
    cases = np.load(sys.argv[3])
    with tempfile.TemporaryDirectory() as folder:
        results = check(module, sys.argv[2], cases, Path(folder))
    sys.stdout.write("\n" + json.dumps({name: bool(value) for name, value in results.items()}) + "\n")


if __name__ == "__main__":
    main()
