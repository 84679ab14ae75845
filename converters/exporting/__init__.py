"""Levels of a nested model in forms that stock runtimes execute without any code of tflnest."""
