"""Files to frames: decoders, inventory, crops, duplicates."""
