"""Your own data and, if you have them, your own ensemble.

python main.py --experiment=own_data_end2 --set data.path=my.npz
python main.py --experiment=own_data_end2 --set data.path=my.npz --set ensemble.models='members/*.keras'
"""

from end2_tf.config import Data, Ensemble, Experiment, Export, Optimizer, Student, Transfer

EXPERIMENTS = {
    "own_data_end2": Experiment(
        data=Data(name="own_data"),
        ensemble=Ensemble(backbone="auto", num_members=10, epochs=40),
        transfer=Transfer(),
        student=Student(epochs=80, optimizer=Optimizer(), methods=("single_matched", "end", "end2_nll", "end2")),
        export=Export(models=("end2",)),
        smoke={"data.max_train": 3000, "ensemble.num_members": 3, "ensemble.epochs": 3, "student.epochs": 5},
    ),
}
