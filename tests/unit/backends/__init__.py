"""Unit tests of the backend adapters."""
