"""Train the small Keras CNN that the examples convert: handwritten digits, 8 x 8 pixels.

    python examples/train_digits.py --output examples/digits.keras

The network has the layers that small image models are made of (convolution, depthwise-separable convolution,
pooling, fully connected) and is sized to make a point: as int8 it holds more weights than a small board's
flash, while its activations need little SRAM. The trained model is in the repository, so that running
the examples needs no training.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from digits import load_split
from numpy.typing import NDArray

SEED = 3
EPOCHS = 40
BATCH = 32

# The backend is chosen, and oneDNN's machine-dependent sums are off, before Keras is imported.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
from keras import layers  # noqa: E402


def build_model() -> keras.Model:
    """The network, 8 x 8 x 1 to 10 classes."""

    def block(x: keras.KerasTensor, layer: layers.Layer) -> keras.KerasTensor:
        normalized = layers.BatchNormalization(name=f"{layer.name}_norm")(layer(x))
        return layers.ReLU(name=f"{layer.name}_relu")(normalized)

    image = keras.Input((8, 8, 1), name="image")
    x = block(image, layers.Conv2D(16, 3, padding="same", use_bias=False, name="stem"))
    x = block(x, layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise_1"))
    x = block(x, layers.Conv2D(32, 1, use_bias=False, name="pointwise_1"))
    x = layers.MaxPooling2D(2, name="pool_1")(x)
    x = block(x, layers.Conv2D(64, 3, padding="same", use_bias=False, name="conv_2"))
    x = block(x, layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise_3"))
    x = block(x, layers.Conv2D(96, 1, use_bias=False, name="pointwise_3"))
    x = layers.AveragePooling2D(2, name="pool_3")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dropout(0.3)(x)
    x = layers.Dense(224, activation="relu", name="hidden")(x)
    x = layers.Dropout(0.3)(x)
    x = layers.Dense(10, activation="softmax", name="digit")(x)
    return keras.Model(image, x, name="digits")


def shifted(x: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Every image moved by up to one pixel each way, its edges filled with background."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows, columns = rng.integers(0, 3, (2, len(x)))
    return np.stack(
        [padded[i, r : r + 8, c : c + 8] for i, (r, c) in enumerate(zip(rows, columns, strict=True))]
    )


def train(epochs: int = EPOCHS, seed: int = SEED) -> tuple[keras.Model, float]:
    """Train the network with a fixed seed; returns it and its accuracy on the test samples."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    (x_train, y_train), (x_test, y_test) = load_split()
    model = build_model()
    steps = epochs * -(-len(x_train) // BATCH)
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps)),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    for epoch in range(epochs):
        history = model.fit(shifted(x_train, rng), y_train, batch_size=BATCH, verbose=0).history
        if (epoch + 1) % 5 == 0:
            print(
                f"epoch {epoch + 1:3} of {epochs}: loss {history['loss'][0]:.4f}, accuracy {history['accuracy'][0]:.3f}"
            )
    accuracy = float((model.predict(x_test, verbose=0).argmax(axis=1) == y_test).mean())
    return model, accuracy


def main() -> None:
    """Train, report and save."""
    parser = argparse.ArgumentParser(description="Train the digits model of the examples.")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).with_name("digits.keras"), help="file to write"
    )
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="passes over the training samples")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of weights, order and shifts")
    options = parser.parse_args()
    model, accuracy = train(options.epochs, options.seed)
    print(f"{model.count_params():,} parameters, accuracy on the test samples {100 * accuracy:.1f} %")
    deployed = build_model()  # without the optimizer, whose state is twice as large as the weights
    deployed.set_weights(model.get_weights())
    deployed.save(options.output)
    print(f"wrote {options.output}: {options.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
