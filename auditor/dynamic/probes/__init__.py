"""What whole runs of a script prove: each probe compares runs that differ in one known thing.

    flip            no loss may move when a later token changes
    mass            exp(-loss) summed over every token that could have been there
    incompressible  nobody can score random tokens below their entropy
    order           weights trained on a token before it is scored
    once            one loss a token, and the text's own bytes
    crossing        the score follows from the artifact alone
    artifact        the artifact follows from training data alone, and has the bytes it is said to
    ranks           the score does not depend on the number of processes

Each says `found`, `clean` or `not audited`, the last with its reason. All comparisons are exact: an
unchanged repeat has to be bit-identical, or nothing is concluded.
"""
