"""The benchmark: the same work on unionfs, on the kernel's OverlayFS and on other unions, taking turns.

``workload`` says what a workload is, ``workloads/`` has them all; ``systems`` says how each union is mounted; ``measurement``
does one measurement, ``daemon_figures`` and ``copy_up_latency`` find what no workload shows, and ``runner`` does all of them;
``report`` and ``chart`` tell what came out.  docs/benchmark.md explains the method.
"""
