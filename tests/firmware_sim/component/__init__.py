"""Tests of models as libraries for the build systems of others."""
