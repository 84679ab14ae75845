"""A nested file in stock TensorFlow Lite: one more argument, and the level is a number.

    python examples/stock_runtime.py --output out

Needs ai-edge-litert, and a C compiler for the delegate.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import digits
import numpy as np
from ai_edge_litert.interpreter import Interpreter

import tflnest

MODEL = Path(__file__).with_name("digits.keras")
LEVELS = (4, 6, 8)


def accuracy(interpreter: Interpreter, samples: digits.Samples) -> float:
    """Share of the samples that the interpreter gets right."""
    interpreter.allocate_tensors()
    (entry,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero_point = entry["quantization"]
    right = 0
    for image, label in zip(*samples, strict=True):
        codes = np.clip(np.rint(image / scale + zero_point), -128, 127).astype(np.int8)
        interpreter.set_tensor(entry["index"], codes[np.newaxis])
        interpreter.invoke()
        right += int(np.argmax(interpreter.get_tensor(result["index"])) == label)
    return right / len(samples[0])


def main() -> None:
    """Convert, and run every level in LiteRT, twice."""
    parser = argparse.ArgumentParser(description="Run the nested digits model in stock TensorFlow Lite.")
    parser.add_argument("--output", type=Path, default=Path("out"), help="folder for everything written")
    parser.add_argument("--model", type=Path, default=MODEL, help="the same network in another file")
    arguments = parser.parse_args()
    calibration, _ = digits.write_files(arguments.output)
    _, test = digits.load_split()
    nested = arguments.output / "digits.tflite"
    tflnest.convert(arguments.model, nested, levels=LEVELS, calibration=calibration, force=True)

    print("speed: weights expanded once, LiteRT's own kernels; the level is fixed")
    for level in LEVELS:
        delegate = tflnest.load_delegate(level=level)
        interpreter = Interpreter(str(nested), experimental_delegates=[delegate])
        print(f"  level {level}: {accuracy(interpreter, test):.1%}")

    print("memory: packed weights are read as they lie; the level changes between invokes")
    delegate = tflnest.load_delegate(mode="memory")
    interpreter = Interpreter(str(nested), experimental_delegates=[delegate])
    for level in LEVELS:
        tflnest.set_delegate_level(delegate, level)
        print(f"  level {level}: {accuracy(interpreter, test):.1%}")


if __name__ == "__main__":
    main()
