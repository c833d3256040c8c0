"""The parts of :mod:`benchmarks.on_gpu`: what each measures, how work is counted, and how results are kept."""
