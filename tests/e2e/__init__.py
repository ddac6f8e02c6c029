"""Tests of the installed service as its own process."""
