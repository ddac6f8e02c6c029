"""What holds for all tests."""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it puts in the background without SIGINT, and whatever that starts inherits it: tests that
    # end a command as Ctrl-C does would wait for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)
