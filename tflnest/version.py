"""Versions of the library and of its JSON documents (the file format has a version of its own)."""

__version__ = "0.1.0"

#: Version of all JSON documents; grows when a key changes its meaning or goes.
JSON_SCHEMA_VERSION = 1
