"""What the recipe of `fashion_mnist_cnn_end2` leaves open: the members' dropout, the labels' share, an offset."""

from end2_tf.grid import Study
from end2_tf.studies import _ood

_LABELS, _OFFSET = "methods.end2_aux.labels", "methods.end2_aux.offset"

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
    "fashion_mnist_cnn_labels": Study(
        title="Labels in the mean's target, and an offset: fashion_mnist_cnn_end2",
        question="Do fewer labels, or an offset, make the student's mean as well calibrated as the ensemble's?",
        experiment="fashion_mnist_cnn_end2",
        methods=("end2_aux",),
        base=_ood.base("fashion_mnist"),
        variants={
            "labels .5": {_LABELS: 0.5, _OFFSET: 0.0},
            "labels .3": {_LABELS: 0.3, _OFFSET: 0.0},
            "labels .5, offset .01": {_LABELS: 0.5, _OFFSET: 0.01},
            "labels .3, offset .01": {_LABELS: 0.3, _OFFSET: 0.01},
        },
    ),
}
