"""One file a family of text-to-video models, over a shared diffusers base."""
