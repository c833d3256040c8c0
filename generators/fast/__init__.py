"""Changes of a denoiser's forward for speed or memory."""
