"""Speed as a ratio of our path to a bound on the same data, in the same run, on the same machine: `make bench`."""
