"""A model as a library for the build systems of others: Arduino, CMake, ESP-IDF and Zephyr."""
