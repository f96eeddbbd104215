"""From a folder of GIFs, stickers and artwork of a character to a LoRA that draws new stickers of it."""
