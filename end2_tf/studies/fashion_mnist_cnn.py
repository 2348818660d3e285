"""What the recipe of `fashion_mnist_cnn_end2` leaves open: whether a student needs the members' dropout."""

from end2_tf.grid import Study
from end2_tf.studies import _ood

STUDIES = {
    "fashion_mnist_cnn_dropout": Study(
        title="Dropout of the student: fashion_mnist_cnn_end2",
        question="Does a student that is shown many views still need the dropout that members were trained with?",
        experiment="fashion_mnist_cnn_end2",
        methods=("end2_aux",),
        base={**_ood.base("fashion_mnist"), "student.epochs": 16},
        variants={
            "no dropout": {},
            "dropout .3, as the members": {"methods.end2_aux.options": {}},
        },
    ),
}
