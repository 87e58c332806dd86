"""One file a benchmark, each with run(output, quick): what `hodsim bench NAME` runs."""
