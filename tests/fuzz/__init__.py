"""Random and damaged input for whatever reads what others wrote: only declared errors, no hang, no huge allocation.

``effort``      how many examples: few in the suite, many in `scripts/fuzz`.
``bounds``      the memory and the time that one example may take.
``strategies``  damaged bytes, JSON documents with a fault.
``requests``    requests of the kernel, sound, damaged, and made up.
"""
