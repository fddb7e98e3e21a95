"""AlphaNet by its exact reduced objective, many trials at once.

Everything but the few-split rows and biases is frozen. With z = W x + b the base model's
logits and s = W x, the corrected score of a few-split class c with neighbours q_1..q_K is

    t_c = s_c + sum_i alpha_ci s_{q_i} + b'_c                          (AlphaNet, Eq. 2 and 4)

and with L the logsumexp of z over the base classes the cross-entropy of a sample (x, y) is

    loss = logaddexp(L, logsumexp_c t_c) - (t_y if y is few-split else z_y).

So a sample enters training as L, z_y and a few columns of s: features are read once,
multiplied once by the head (`scores`), and never again. This is an identity; the tests hold
it against the objective as the paper writes it.

`fit` is the one way from values to a correction. Arrows: fit -> sweep -> task -> training ->
network, objective -> scores; `combine` chooses among finished trials.
"""
