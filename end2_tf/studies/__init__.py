"""Studies by name, a file a family: values only. `python main.py --study=list` names them."""
