"""What images are imported from: one file a kind of source; `unionfs.store.sources.archive` tells them apart by what they
hold."""
