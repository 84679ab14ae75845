"""Keras, SavedModel and TFLite models become nested `.tflite` files."""
