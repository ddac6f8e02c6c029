"""Unit tests of the service: no sockets, time is virtual."""
