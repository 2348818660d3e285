"""In-domain data, auxiliary inputs and OOD sets as arrays: sources, checks, adaptation and augmentation."""
