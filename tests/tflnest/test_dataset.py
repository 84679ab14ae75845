from __future__ import annotations

import numpy as np
import pytest

from tflnest.dataset import Dataset, load_dataset
from tflnest.errors import FormatError, UsageError
from tflnest.graph import Quantization, Tensor


def tensor(shape=(1, 4), type_name="FLOAT32", scale=None, zero_point=0):
    quantization = None
    if scale is not None:
        quantization = Quantization(np.array([scale], np.float32), np.array([zero_point], np.int64))
    return Tensor(0, "image", shape, shape, type_name, quantization, 0)


@pytest.fixture
def samples():
    return np.arange(12, dtype=np.float32).reshape(3, 4)


def test_npz_with_labels(tmp_path, samples):
    np.savez(tmp_path / "data.npz", x=samples, y=np.array([0, 1, 2]))
    data = load_dataset(tmp_path / "data.npz")
    assert np.array_equal(data.x, samples)
    assert data.labels().tolist() == [0, 1, 2]
    assert len(data.limited(2)) == 2 and data.limited(2).labels().tolist() == [0, 1]
    assert data.limited(None) is data


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_without_labels(tmp_path, samples, save):
    save(tmp_path / "data.npz", x=samples)
    assert load_dataset(tmp_path / "data.npz").labels() is None


def test_npy_holds_samples_alone(tmp_path, samples):
    np.save(tmp_path / "data.npy", samples)
    data = load_dataset(tmp_path / "data.npy")
    assert np.array_equal(data.x, samples) and data.y is None


def test_column_labels_are_class_numbers(samples):
    assert Dataset(samples, np.array([[1], [2], [3]], np.uint8)).labels().tolist() == [1, 2, 3]


def refusal(path):
    with pytest.raises(FormatError) as caught:
        load_dataset(path)
    return str(caught.value)


def test_missing_key_lists_the_keys(tmp_path, samples):
    np.savez(tmp_path / "data.npz", images=samples, labels=samples)
    assert "no array named 'x'; its keys: images, labels" in refusal(tmp_path / "data.npz")


def test_missing_file_folder_and_foreign_file(tmp_path):
    assert "no such file" in refusal(tmp_path / "none.npz")
    assert "is a folder" in refusal(tmp_path)
    (tmp_path / "text.npz").write_text("x,y\n1,2\n")
    assert "neither an .npz nor an .npy" in refusal(tmp_path / "text.npz")
    (tmp_path / "empty.npy").write_bytes(b"")
    assert "0 bytes" in refusal(tmp_path / "empty.npy")


@pytest.mark.parametrize("name", ["data.npz", "data.npy"])
def test_every_truncation_is_one_error(tmp_path, samples, name):
    path = tmp_path / name
    np.savez(path, x=samples) if name.endswith("z") else np.save(path, samples)
    content = path.read_bytes()
    for size in range(0, len(content) - 1, 7):
        path.write_bytes(content[:size])
        assert str(path) in refusal(path)


def test_flipped_bytes_never_escape_as_other_errors(tmp_path, samples):
    path = tmp_path / "data.npz"
    np.savez_compressed(path, x=samples, y=np.arange(3))
    content = path.read_bytes()
    for position in range(len(content)):
        broken = bytearray(content)
        broken[position] ^= 0xFF
        path.write_bytes(broken)
        try:
            assert len(load_dataset(path)) >= 1
        except FormatError as error:
            assert str(path) in str(error)


def test_object_arrays_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "Python objects" in refusal(tmp_path / "data.npz")
    np.save(tmp_path / "data.npy", np.array([None], dtype=object), allow_pickle=True)
    assert "Python objects" in refusal(tmp_path / "data.npy")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_must_be_finite(samples, bad):
    samples[2, 1] = bad
    with pytest.raises(FormatError, match="sample 2 of x holds NaN or infinity"):
        Dataset(samples)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((0, 4)), "no samples"),
        (np.zeros((3, 0)), "no samples"),
        (np.float32(1), "no samples"),
        (np.array(["a"]), "numbers were expected"),
        (np.zeros((2, 2), np.complex64), "numbers were expected"),
        (np.zeros(2, np.bool_), "numbers were expected"),
    ],
)
def test_samples_must_be_numbers(x, message):
    with pytest.raises(FormatError, match=message):
        Dataset(np.asarray(x))


def test_lengths_must_agree(samples):
    with pytest.raises(FormatError, match="x has 3 samples and y has 2"):
        Dataset(samples, np.array([1, 2]))


@pytest.mark.parametrize("y", [np.eye(3), np.array([0.5, 1.0, 2.0]), np.array(["a", "b", "c"])])
def test_labels_must_be_class_numbers(samples, y):
    with pytest.raises(FormatError, match="not one class number per sample"):
        Dataset(samples, y).labels()


def test_limit_must_be_positive(samples):
    with pytest.raises(UsageError, match="0 were asked for"):
        Dataset(samples).limited(0)


def test_shape_message_states_both_shapes(samples):
    with pytest.raises(FormatError, match=r"sample has shape \[4\], the model's input takes \[8, 8, 1\]"):
        Dataset(samples).inputs_for(tensor((1, 8, 8, 1)))


def test_input_without_a_batch_takes_the_whole_shape():
    x = np.zeros((5, 49, 10), np.float32)
    assert Dataset(x).inputs_for(tensor((49, 10))) is x


def test_float_input_takes_any_float(samples):
    assert Dataset(samples).inputs_for(tensor()) is samples
    converted = Dataset(samples.astype(np.float64)).inputs_for(tensor())
    assert converted.dtype == np.float32 and np.array_equal(converted, samples)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.int8])
def test_integers_for_a_float_input_are_ambiguous(samples, dtype):
    with pytest.raises(FormatError, match=f"x has type {np.dtype(dtype)}, the model's input is float32"):
        Dataset(samples.astype(dtype)).inputs_for(tensor())


def test_int8_input_takes_int8_and_quantizes_floats(samples):
    target = tensor(type_name="INT8", scale=0.5, zero_point=-3)
    integers = samples.astype(np.int8)
    assert Dataset(integers).inputs_for(target) is integers
    values = np.array([[0.25, -0.25, 0.75, 1000.0]], np.float32)
    assert Dataset(values).inputs_for(target).tolist() == [[-2, -4, -1, 127]]
    with pytest.raises(FormatError, match="x has type uint8, the model's input is int8"):
        Dataset(samples.astype(np.uint8)).inputs_for(target)


def test_integer_input_without_scale_refuses_floats(samples):
    with pytest.raises(UsageError, match="has no scale"):
        Dataset(samples).inputs_for(tensor(type_name="INT8"))
