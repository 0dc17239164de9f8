"""What keys of steps contain: digests of the code, files and packages that results depend on."""
