"""The services of the contract: they decode, submit and encode, and hold no policy."""
