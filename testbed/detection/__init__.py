"""Detectors of out-of-distribution examples: a score an example, LARGER = MORE OUT-OF-DISTRIBUTION.

What is where
    base            the pattern of a detector: parameters, facts, learn / evaluate, state, checks
    network         the same for detectors that run the network themselves
    msp maxlogit energy weighted_energy entropy gen tempscale klm openmax          read logits
    mahalanobis rmds gmm knn knn_faiss cfood kernel_pca                             read features
    subspace clipping dice shaping fdbd nci pnml mcm                                read features and the head
    she nnguide relation gradients                                                  read logits and features
    odin mahalanobis_network rankfeat gram mc_dropout adascale nac                  read inputs
    similarity collect   one pass over bank-query similarities for all that need it
    together        many detectors on one set
    differentiable  scores as torch functions, for attacks on them
    tuning          hyper-parameters chosen on a named set; published sweeps
    protocols       published protocols as data

To add one: a frozen dataclass in a file of its own, one line under `testbed.detectors` in pyproject.toml; the contract
tests then find it.
"""
