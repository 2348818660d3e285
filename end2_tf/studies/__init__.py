"""Studies by name, a file a family: values only. `python main.py --study=list` names them.

A file's `STUDIES` maps names to `end2_tf.grid.Study`, which has its experiment, or to `end2_tf.grid.Template`, which is
made for the experiment that `--experiment` names.
"""
