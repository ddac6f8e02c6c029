"""One adapter a file for the kinds of backend, on a common HTTP session and common parsers."""
