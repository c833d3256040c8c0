"""Seeds that depend on what a thing is, never on when or where it is made."""

import hashlib


def seed_for(*parts: object) -> int:
    """A seed in [0, 2**63) from ``parts``, e.g. ``seed_for(run_seed, "sample", round, prompt_id, index)``.

    Order of work, number of processes and resumption cannot change it, so neither can they change a result.
    """
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> 1
