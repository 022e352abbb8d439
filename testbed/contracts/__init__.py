"""Does a plug-in keep the contract of its kind? The same questions for built-ins and for a user's file.

    testbed.contracts.check("attack", "./my_attack.py:shrink")   -> list of Finding, one a question
    testbed.contracts.kind_of("./my_attack.py:shrink")           -> "attack"

Everything is asked on small drawn data, in seconds, without a grid. A finding that did not hold says what was expected
and what came.
"""

from testbed.contracts.base import Finding as Finding
from testbed.contracts.base import check as check
from testbed.contracts.base import kind_of as kind_of
