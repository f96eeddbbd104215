"""How often each frame is trained on."""
