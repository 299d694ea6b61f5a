"""The proof-cost comparison, ``rexis bench``: what each tier costs on each zoo model, beside its peers.

One module measures one topic (:mod:`~bench.costs.tiers`, :mod:`~bench.costs.circuit`, :mod:`~bench.costs.chain`,
``peer_*``) and puts what it finds into the types of :mod:`~bench.costs.result`; ``terminal``, ``document`` and ``page``
show them. Results are checked while they are measured (:mod:`~bench.costs.checks`): the command fails on a wrong one,
never on a slow one.
"""
