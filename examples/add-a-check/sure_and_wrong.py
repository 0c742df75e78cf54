"""How often is the model sure of itself and wrong?"""

from audit import Evidence, Predictions, check, proportion


@check("reliability.sure_and_wrong")
def sure_and_wrong(predictions: Predictions, *, sure: float = 0.9) -> Evidence:
    """Sure and wrong.

    The share of answers that are wrong although the model gave them at least the probability `sure`. A
    person who is shown such an answer has no reason to doubt it.
    """
    confident = predictions.probabilities.max(axis=1) >= sure
    wrong = confident & ~predictions.correct
    return Evidence(
        measures=[
            proportion("sure_and_wrong", int(wrong.sum()), int(confident.sum()), better="lower"),
        ]
    )
