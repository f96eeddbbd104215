"""Assets of the stage `packing`: a character's sticker pack."""
