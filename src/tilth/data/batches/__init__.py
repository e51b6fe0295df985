"""From a prepared dataset to batches: orders, packing, masking, mixtures, and what reads them."""
