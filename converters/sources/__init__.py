"""Where models come from: Keras files, SavedModel folders, float and int8 `.tflite` files."""

from __future__ import annotations

from converters.sources.source import SUFFIXES, Source, SourceKind, load_source

__all__ = ["SUFFIXES", "Source", "SourceKind", "load_source"]
