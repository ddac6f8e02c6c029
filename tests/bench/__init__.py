"""`make bench`: what the service costs, as ratios to a bare loop on the same machine in the same run."""
