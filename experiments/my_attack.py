"""An attack as one file: move every pixel towards grey, one example a little further than the other.

It imports nothing of the testbed. Its keyword-only parameters are its schema; `rng` draws per example, so the images
do not depend on the batch. `testbed check experiments/my_attack.py:shrink -p eps=0.1` asks it what the built-ins are
asked.
"""


def shrink(model, x, y, *, eps: float, rng):
    """Each image, float `[n c h w]` in [0, 1], with its contrast reduced by at most eps a pixel."""
    share = 0.5 + 0.5 * rng.uniform((1,) * (x.dim() - 1), name="share")
    return x + eps * x.new_tensor(share) * (0.5 - x).sign() * ((0.5 - x).abs() > eps)
