"""Metrics equal scikit-learn's, whatever the size of the batches."""

import math

import numpy as np
import pytest

from conftest import peer
from tinyml.layers import Linear
from tinyml.learner import Learner
from tinyml.losses import MSE, SoftmaxCrossEntropy
from tinyml.metrics import F1, Accuracy, Confusion, Dice, IoU, TopK, named
from tinyml.net import Sequential
from tinyml.optims import SGD
from tinyml_backends import MixedBackendError

CLASSES = 5
IGNORED = -100


@pytest.fixture
def sk():
    peer("sklearn")
    from sklearn import metrics

    return metrics


def drawn(seed, shape, dtype=np.float32, target_dtype=np.int64, ignored=0.2):
    """Scores, and targets of which some are ignored; class 3 is often absent."""
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((shape[0], CLASSES, *shape[1:])).astype(dtype)
    target = rng.integers(0, CLASSES - seed % 2, shape).astype(target_dtype)
    target[rng.random(shape) < ignored] = IGNORED
    return scores, target


def flat(scores, target):
    """(targets, classes) and (targets,), of those that count."""
    scores = np.moveaxis(scores, 1, -1).reshape(-1, CLASSES)
    target = target.reshape(-1)
    return scores[target != IGNORED], target[target != IGNORED]


def over(metric, backend, scores, target, size):
    for start in range(0, len(scores), size):
        batch = np.s_[start : start + size]
        metric.update(backend.asarray(scores[batch]), backend.asarray(target[batch]))
    return metric.value()


@pytest.mark.parametrize("shape", [(40,), (6, 5, 7), (3, 2, 4, 3)], ids=str)
@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("seed", [0, 1])
def test_they_equal_those_of_scikit_learn(backend, sk, shape, size, seed):
    scores, target = drawn(seed, shape, target_dtype=(np.int64, np.int16)[seed])
    rows, truth = flat(scores, target)
    found, labels = rows.argmax(1), range(CLASSES)

    def value(metric):
        return over(metric, backend, scores, target, size)

    assert value(Accuracy()) == sk.accuracy_score(truth, found)
    for k in (1, 2, 4):
        expected = sk.top_k_accuracy_score(truth, rows, k=k, labels=labels)
        assert value(TopK(k)) == expected
    assert value(Confusion()) == sk.confusion_matrix(truth, found, labels=labels).tolist()
    for metric, function in ((IoU, sk.jaccard_score), (Dice, sk.f1_score), (F1, sk.f1_score)):
        for classes in (None, [1, 2], [4]):
            chosen = list(labels if classes is None else classes)
            occurring = sorted({*truth.tolist(), *found.tolist()} & set(chosen))
            ours = metric(classes)
            expected = function(truth, found, labels=occurring, average="macro")
            assert value(ours) == pytest.approx(expected, rel=1e-14)
            every = function(truth, found, labels=labels, average=None, zero_division=0)
            ours = ours.per_class()
            np.testing.assert_allclose(ours[~np.isnan(ours)], every[~np.isnan(ours)], rtol=1e-14)


@pytest.mark.parametrize("target_dtype", [np.uint8, np.int8, np.uint64])
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_dtypes(backend, dtype, target_dtype):
    scores, target = drawn(0, (30,), dtype, ignored=0)
    for metric in (Accuracy(), TopK(2), Confusion(), IoU()):
        expected = over(metric, backend, scores, target, 7)
        metric.reset()
        assert over(metric, backend, scores, target.astype(target_dtype), 11) == expected


def test_of_equal_scores_the_first_is_the_largest_and_nan_larger(backend):
    scores = np.array([[1, 1, 1], [0, np.nan, np.nan], [np.nan, 2, 1], [3, 1, 1]], np.float32)
    orders = [[0, 1, 2], [1, 2, 0], [0, 1, 2], [0, 1, 2]]
    for k in (1, 2, 3):
        for row, order in enumerate(orders):
            for target in range(3):
                batch = backend.asarray(scores[[row]]), backend.asarray(np.array([target]))
                top, accuracy = TopK(k), Accuracy()
                top.update(*batch)
                accuracy.update(*batch)
                assert top.value() == float(target in order[:k])
                assert accuracy.value() == float(target == order[0])


def test_a_ratio_of_nothing_is_nan(backend):
    scores = backend.asarray(np.eye(3, dtype=np.float32)[[0, 0, 1]])
    target = backend.asarray(np.array([0, 1, 1]))
    for metric in (IoU(), Dice(), F1()):
        assert math.isnan(metric.value())  # no batch yet
        assert metric.per_class().shape == (0,)
        metric.update(scores, target)
        assert np.isnan(metric.per_class()).tolist() == [False, False, True]
        assert metric.value() == pytest.approx(metric.per_class()[:2].mean())
        only = type(metric)(classes=[2])
        assert math.isnan(only.value())
        only.update(scores, target)
        assert math.isnan(only.value())
    # predicted but not in the targets
    iou = IoU()
    iou.update(scores, target * 0)
    np.testing.assert_array_equal(iou.per_class(), [2 / 3, 0, np.nan])
    nothing = target * 0 - 100
    for metric in (Accuracy(), TopK(2), IoU()):
        metric.update(scores, nothing)
        metric.update(scores[:0], target[:0])
        assert math.isnan(metric.value())
    confusion = Confusion()
    assert confusion.value() == []
    confusion.update(scores, nothing)
    assert confusion.value() == [[0, 0, 0]] * 3


def test_reset_and_ignore_index(backend):
    scores = backend.asarray(np.eye(2, dtype=np.float32)[[0, 1, 1]])
    target = backend.asarray(np.array([0, 0, 255]))
    for metric in (Accuracy(255), TopK(1, 255), IoU(ignore_index=255)):
        metric.update(scores, target)
        first = metric.value()
        metric.update(scores, target[::-1])
        assert metric.value() != first
        metric.reset()
        metric.update(scores, target)
        assert metric.value() == first
    assert Accuracy(255).value() != first


@pytest.mark.parametrize("metric", [Accuracy(), TopK(2), Confusion(), IoU([1])], ids=repr)
def test_a_wrong_batch_is_refused_and_does_not_count(backend, metric):
    metric.reset()
    scores = backend.asarray(np.eye(3, dtype=np.float32))
    target = backend.asarray(np.array([0, 1, 1]))
    metric.update(scores, target)
    before = metric.value()
    with pytest.raises(ValueError, match=r"output has shape \(3,\); it must be \(samples, classes"):
        metric.update(target, target)
    with pytest.raises(ValueError, match=r"target has shape \(3, 3\); it must be \(3\)"):
        metric.update(scores, scores)
    with pytest.raises(TypeError, match="target has dtype float32; it must hold integers"):
        metric.update(scores, scores[0])
    with pytest.raises(ValueError, match="target holds 3; it must be a class from 0 to 2, or -100"):
        metric.update(scores, target + 2)
    with pytest.raises((TypeError, MixedBackendError)):
        metric.update(scores, [0, 1, 1])
    assert metric.value() == before


def test_other_errors(backend):
    scores = backend.asarray(np.eye(3, dtype=np.float32))
    target = backend.asarray(np.array([0, 1, 1]))
    with pytest.raises(ValueError, match="k is 4; it must be at most 3, the number of classes"):
        TopK(4).update(scores, target)
    with pytest.raises(ValueError, match=r"classes is \[3\]; every class must be less than 3"):
        IoU([3]).update(scores, target)
    confusion = Confusion()
    confusion.update(scores, target)
    with pytest.raises(ValueError, match="output has 2 classes; it must have 3, as before"):
        confusion.update(scores[:, :2], target)
    with pytest.raises(ValueError, match="k is 0; it must be at least 1"):
        TopK(0)
    for classes in ([], 1, "1"):
        with pytest.raises(TypeError, match=r"classes is .*; it must be"):
            Dice(classes)
    with pytest.raises(ValueError, match=r"classes is \[-1\]; every value must be at least 0"):
        F1([-1])
    with pytest.raises(TypeError, match=r"ignore_index is 0\.5; it must be"):
        Accuracy(0.5)


@pytest.mark.host
def test_names():
    metrics = [Accuracy(), TopK(3), Confusion(), IoU(), Dice(), F1()]
    assert list(named(metrics)) == ["accuracy", "top3", "confusion", "iou", "dice", "f1"]
    both = {"all": IoU(), "nuclei": IoU([1])}
    assert named(both) == both
    with pytest.raises(ValueError, match="metrics has two of the name 'iou'; give other names"):
        named([IoU(), IoU([1])])
    with pytest.raises(ValueError, match="metrics has one of the name 'loss'"):
        named({"loss": IoU()})
    with pytest.raises(TypeError, match="metrics holds the class IoU; it must be called"):
        named([IoU])
    with pytest.raises(TypeError, match="metrics holds 1; it must hold metrics"):
        named([1])
    for wrong in (IoU(), "iou"):
        with pytest.raises(TypeError, match=r"metrics is .*; it must hold metrics, such as"):
            named(wrong)
    assert repr(IoU([1])) == "IoU(classes=[1], ignore_index=-100)"
    assert repr(TopK(2)) == "TopK(k=2, ignore_index=-100)"


class Largest:
    """A user's metric, of targets of any kind."""

    def reset(self):
        self.largest = -math.inf

    def update(self, output, target):
        self.largest = max(self.largest, float(abs(output - target).max()))

    def value(self):
        return self.largest


def test_a_learner_computes_them(backend):
    rng = np.random.default_rng(0)
    x = backend.asarray(rng.standard_normal((50, 4), np.float32))
    y = backend.asarray(rng.integers(0, 3, 50))
    learner = Learner(Sequential([Linear("l", 4, 3, rng=0)]), SoftmaxCrossEntropy(), SGD(0.1))
    metrics = [IoU(), F1(), TopK(2), Confusion()]
    history = learner.fit((x, y), (x, y), epochs=2, metrics=iter(metrics))
    last = history["validation"][-1]
    assert list(last) == ["loss", "accuracy", "iou", "f1", "top2", "confusion"]
    for size in (1, 7, 50):
        result = learner.evaluate((x, y), batch_size=size, metrics=metrics)
        assert {**result, "loss": 0} == {**last, "loss": 0}
    output = learner.predict(x)
    for metric in metrics:
        assert metric.value() == last[metric.name]  # it keeps the last counts
        metric.reset()
        metric.update(output, y)
        assert metric.value() == last[metric.name]
    assert np.trace(np.array(last["confusion"])) / 50 == last["accuracy"]


def test_a_metric_of_the_user(backend):
    x = backend.asarray(np.arange(6, dtype=np.float32).reshape(6, 1))
    learner = Learner(Sequential([Linear("l", 1, 1, rng=0)]), MSE(), SGD(0.1))
    result = learner.evaluate((x, x), batch_size=4, metrics=[Largest()])
    assert result["Largest"] == pytest.approx(float(abs(learner.predict(x) - x).max()))


def test_metrics_need_validation_data(backend):
    x = backend.asarray(np.zeros((4, 1), np.float32))
    learner = Learner(Sequential([Linear("l", 1, 1, rng=0)]), MSE(), SGD(0.1))
    with pytest.raises(ValueError, match="metrics are of the validation data, and validation is"):
        learner.fit((x, x), metrics=[Largest()])
