"""What README and documentation say of the stored runs: text and pictures, made from the run folder alone."""
