"""What the next worker of a mount must know to go on where a killed one stopped, kept where no signal reaches it.

A worker serves a mount; when it dies, another one takes over the connection (docs/takeover.md).  What cannot be found again in
the layers is written here as it changes: which node ids the kernel holds and what they are called, which files it has open in
passthrough, the objects without a name, the order of listings, the last reply.

`unionfs.journal.storage` is the memory, `unionfs.journal.records` what is written there, `unionfs.journal.journal` the writing,
`unionfs.journal.recovered` the reading.
"""
