"""Fixtures and fakes that several test suites share."""
