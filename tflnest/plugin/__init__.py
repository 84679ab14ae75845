"""The plugin: nested files in stock TensorFlow Lite, by an external delegate in C."""
