"""Tests against real components: a llama-server engine and a Phoenix trace backend, built once into a cache folder."""
