"""Experiments: values only, one file a family. `EXPERIMENTS` maps names to `end2_tf.config.Experiment`."""
