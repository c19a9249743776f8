"""Every table and figure of the GAN-UNET paper, with numbers where it has only pictures, and honest rivals."""
